"""A job's results as rows to read: each figure with its name, its interval and what nothing learnt would score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from webapp.jobs.models import Job

_NAMES = {
    "foreground_iou": "Foreground IoU",
    "foreground_iou_at_half": "Foreground IoU at threshold 0.5",
    "background_iou": "Background IoU",
    "mean_iou": "Mean IoU",
    "dice": "Dice",
    "precision": "Precision",
    "recall": "Recall",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "chance": "Chance (largest class)",
    "grey_accuracy": "Accuracy of grey mean and variance alone",
    "beyond_grey": "Beyond grey values and chance",
    "cross_entropy": "Cross-entropy",
    "marginal_cross_entropy": "Cross-entropy of the training colours' frequencies",
    "marginal_loss": "Loss of the training colours' frequencies",
    "ab_error": "Colour error, class-balanced",
    "constant_ab_error": "Colour error of one constant colour",
    "grey_ab_error": "Colour error of grey",
    "photographs": "Photographs",
    "loss": "Loss",
    "embedding_std": "Embedding spread",
    "effective_rank": "Effective rank",
    "knn_accuracy": "kNN accuracy",
    "confidence_drop": "Confidence drop, brightest 20 % hidden",
    "random_correlation": "Correlation with random weights",
    "judged_epoch": "Epoch of the weights kept",
    "judged_step": "Step of the weights kept",
    "best_epoch": "Best epoch",
    "best_step": "Best step",
    "images": "Images",
    "groups": "Stacks",
    "part": "Judged on",
    "threshold": "Threshold",
    "steps": "Steps",
    "features": "Features per image",
    "weight_decay": "Weight decay, chosen on validation",
    "origin": "Weights",
}
_RATIOS = {
    "foreground_iou",
    "foreground_iou_at_half",
    "average_precision",
    "accuracy",
    "chance",
    "grey_accuracy",
    "beyond_grey",
    "background_iou",
    "mean_iou",
    "dice",
    "precision",
    "recall",
    "knn_accuracy",
    "confidence_drop",
    "random_correlation",
}
_BESIDE = {"floor", "healthy_std", "split", "shows_nothing", "verdict"}
"""Said beside another figure, or as a sentence of their own."""
PER_IMAGE = "_per_image"
FEWEST_GROUPS = 5
"""With fewer, an interval over groups says nothing."""


@dataclass(frozen=True)
class ResultRow:
    name: str
    text: str
    note: str


def result_rows(job: Job) -> list[ResultRow]:
    """The known figures in their order, then the others by their own names; lists and tables are left out."""
    results = job.results
    keys = [k for k in _NAMES if k in results] + [k for k in results if k not in _NAMES]
    rows = []
    for key in keys:
        value = results[key]
        if key in _BESIDE or key.endswith("_interval") or isinstance(value, dict | list) or value is None:
            continue
        name = _name(key)
        rows.append(ResultRow(name, _text(key, value), _note(key, results)))
    return rows


def _name(key: str) -> str:
    base = key.removesuffix(PER_IMAGE)
    name = _NAMES.get(base, base.replace("_", " ").capitalize().replace("iou", "IoU"))
    return name if base == key else f"{name}, mean over images"


def _text(key: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if key.removesuffix(PER_IMAGE) in _RATIOS else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _note(key: str, results: dict[str, Any]) -> str:
    interval = results.get(f"{key}_interval")
    if isinstance(interval, list | tuple) and len(interval) == 2 and None not in interval:
        return f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}"
    if key == "accuracy" and isinstance(results.get("chance"), int | float):
        return f"chance: {results['chance']:.3f}"
    if key == "mean_iou" and isinstance(results.get("floor"), int | float):
        return f"predict nothing: {results['floor']:.3f}"
    if key == "embedding_std" and isinstance(results.get("healthy_std"), int | float):
        return f"healthy: {results['healthy_std']:.3f}"
    groups = results.get("groups")
    if key == "groups" and isinstance(groups, int) and groups < FEWEST_GROUPS:
        return "too few for an interval"
    return ""


@dataclass(frozen=True)
class Cell:
    """So many images of one class that were taken for another, and their share of the row. `heat` is 1 to HEATS."""

    predicted: str
    count: int
    share: str
    heat: int
    right: bool


@dataclass(frozen=True)
class ConfusionRow:
    label: str
    cells: list[Cell]
    total: int


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix as it is shown: a row per true class, a column per predicted one, totals at the edge."""

    labels: list[str]
    rows: list[ConfusionRow]
    column_totals: list[tuple[str, int]]
    """By the predicted class."""
    total: int


HEATS = 5
"""Steps from surface, for nothing, to accent, by the share of the row."""


def confusion_of(job: Job) -> Confusion | None:
    """The confusion matrix of a classification; None where the job recorded none."""
    found = job.results.get("confusion")
    if not isinstance(found, dict):
        return None
    labels, counts = found.get("labels"), found.get("counts")
    if not isinstance(labels, list) or not isinstance(counts, list) or len(labels) != len(counts):
        return None
    rows = []
    for place, (label, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row)
        cells = []
        for column, count in enumerate(row):
            share = count / total if total else 0.0
            heat = 1 + math.ceil(share * (HEATS - 1))
            text = f"{100 * share:.0f} %" if total else "no image"
            cells.append(Cell(predicted=labels[column], count=count, share=text, heat=heat, right=column == place))
        rows.append(ConfusionRow(label=label, cells=cells, total=total))
    columns = [(label, sum(column)) for label, column in zip(labels, zip(*counts, strict=True), strict=True)]
    return Confusion(labels=labels, rows=rows, column_totals=columns, total=sum(total for _, total in columns))


def class_rows(job: Job) -> list[dict[str, Any]]:
    """One row per class of a classification: label, precision, recall, support."""
    rows = job.results.get("per_class")
    return [row for row in rows if isinstance(row, dict) and "label" in row] if isinstance(rows, list) else []


def mistakes_of(job: Job, most: int = 24) -> list[dict[str, Any]]:
    """The surest mistakes of a classification, the surest first."""
    rows = job.results.get("mistakes")
    return [row for row in rows if isinstance(row, dict)][:most] if isinstance(rows, list) else []


def worst_images(job: Job, most: int = 12) -> list[dict[str, Any]]:
    """The lowest-scoring images, where the job recorded figures per image."""
    rows = job.results.get("per_image")
    if not isinstance(rows, list):
        return []
    scored = [r for r in rows if isinstance(r, dict) and isinstance(r.get("foreground_iou"), int | float)]
    return sorted(scored, key=lambda r: r["foreground_iou"])[:most]
