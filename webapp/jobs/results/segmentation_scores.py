"""Scores of a segmentation as one table: each score over all pixels with its interval, and averaged over images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.files.storage import default_storage
from django.urls import reverse

from webapp.jobs.inputs import revision_in
from webapp.jobs.models import Job

PER_IMAGE = "_per_image"
_SCORES = {
    "foreground_iou": "Foreground IoU",
    "background_iou": "Background IoU",
    "mean_iou": "Mean IoU",
    "dice": "Dice",
    "precision": "Precision",
    "recall": "Recall",
    "average_precision": "Average precision",
}
SAID = frozenset({*_SCORES, *(name + PER_IMAGE for name in _SCORES), "floor", "threshold", "foreground_iou_at_half"})
"""Results that the table, or the line of facts below it, contains."""
CURVE = "precision-recall.csv"


@dataclass(frozen=True)
class ScoreRow:
    """One score as text; empty if not measured. `beside`: the value to compare it with."""

    name: str
    pooled: str
    interval: str
    per_image: str
    beside: str = ""


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class of the masks; None if there was nothing to measure."""

    name: str
    iou: float | None
    dice: float | None
    precision: float | None
    recall: float | None


def score_rows(job: Job) -> list[ScoreRow]:
    """The scores of a segmentation, the headline first; empty for other kinds of job."""
    if job.kind != "segment":
        return []
    classes = job.results.get("per_class")
    several = f", mean of {len(classes)} classes" if isinstance(classes, list) and len(classes) > 1 else ""
    return [
        ScoreRow(
            name=name + (several if key not in ("background_iou", "mean_iou") else ""),
            pooled=_text(job.results.get(key)),
            interval=interval_of(job.results, key),
            per_image=_text(job.results.get(key + PER_IMAGE)),
            beside=_floor(job.results) if key == "mean_iou" else "",
        )
        for key, name in _SCORES.items()
        if isinstance(job.results.get(key), int | float)
    ]


def class_scores(job: Job) -> list[ClassScores]:
    """The scores of each class of a segmentation into several, labelled as in the dataset."""
    rows = job.results.get("per_class")
    if job.kind != "segment" or not isinstance(rows, list) or len(rows) < 2:
        return []
    revision = revision_in(job.inputs)
    named = revision.dataset.classes if revision else {}
    layer = named.get(job.spec.get("mask_layer")) or (next(iter(named.values())) if len(named) == 1 else {})
    return [
        ClassScores(
            name=layer.get(str(row["value"]), {}).get("name") or f"class {row['value']}",
            **{key: row.get(key) for key in ("iou", "dice", "precision", "recall")},
        )
        for row in rows
        if isinstance(row, dict) and "value" in row
    ]


def worst_images(job: Job, most: int = 12) -> list[dict[str, Any]]:
    """The lowest-scoring images, if the job recorded figures per image."""
    rows = job.results.get("per_image")
    if not isinstance(rows, list):
        return []
    scored = [r for r in rows if isinstance(r, dict) and isinstance(r.get("foreground_iou"), int | float)]
    return sorted(scored, key=lambda r: r["foreground_iou"])[:most]


@dataclass(frozen=True)
class Curve:
    """URL of the table of precision and recall by threshold, whose images it covers, and the threshold in use."""

    address: str
    part: str
    threshold: float


def curve_of(job: Job) -> Curve | None:
    """The newest curve of a segmentation; None if it kept none, or its file was deleted."""
    table = job.artifacts.filter(kind="table", name=CURVE).order_by("-id").first()
    threshold = job.results.get("threshold")
    if table is None or not isinstance(threshold, int | float) or not default_storage.exists(table.sha256):
        return None
    address = reverse("artifact", args=[table.pk, table.name])
    return Curve(address=address, part=str(table.facts.get("part", "validation")), threshold=threshold)


def interval_of(results: dict[str, Any], key: str) -> str:
    """ "[0.81, 0.87]"; empty if there were too few groups for an interval."""
    pair = results.get(f"{key}_interval")
    if isinstance(pair, list | tuple) and len(pair) == 2 and None not in pair:
        return f"[{pair[0]:.2f}, {pair[1]:.2f}]"
    return ""


def _floor(results: dict[str, Any]) -> str:
    floor = results.get("floor")
    return f"predict nothing: {floor:.3f}" if isinstance(floor, int | float) else ""


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""
