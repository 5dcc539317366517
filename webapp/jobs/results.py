"""A job's results as rows to read: each figure with its name, its interval and what nothing learnt would score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webapp.jobs.models import Job

_NAMES = {
    "foreground_iou": "Foreground IoU",
    "background_iou": "Background IoU",
    "mean_iou": "Mean IoU",
    "dice": "Dice",
    "precision": "Precision",
    "recall": "Recall",
    "loss": "Loss",
    "embedding_std": "Embedding spread",
    "effective_rank": "Effective rank",
    "knn_accuracy": "kNN accuracy",
    "confidence_drop": "Confidence drop, brightest 20 % hidden",
    "random_correlation": "Correlation with random weights",
    "best_epoch": "Best epoch",
    "best_step": "Best step",
    "images": "Images",
    "groups": "Stacks",
    "part": "Judged on",
    "threshold": "Threshold",
    "steps": "Steps",
}
_RATIOS = {
    "foreground_iou",
    "background_iou",
    "mean_iou",
    "dice",
    "precision",
    "recall",
    "knn_accuracy",
    "confidence_drop",
    "random_correlation",
}
_BESIDE = {"floor", "healthy_std", "split"}
"""Said beside another figure, or as a sentence of their own."""
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
        name = _NAMES.get(key, key.replace("_", " ").capitalize().replace("iou", "IoU"))
        rows.append(ResultRow(name, _text(key, value), _note(key, results)))
    return rows


def _text(key: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if key in _RATIOS else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _note(key: str, results: dict[str, Any]) -> str:
    interval = results.get(f"{key}_interval")
    if isinstance(interval, list | tuple) and len(interval) == 2 and None not in interval:
        return f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}"
    if key == "mean_iou" and isinstance(results.get("floor"), int | float):
        return f"predict nothing: {results['floor']:.3f}"
    if key == "embedding_std" and isinstance(results.get("healthy_std"), int | float):
        return f"healthy: {results['healthy_std']:.3f}"
    groups = results.get("groups")
    if key == "groups" and isinstance(groups, int) and groups < FEWEST_GROUPS:
        return "too few for an interval"
    return ""


def worst_images(job: Job, most: int = 12) -> list[dict[str, Any]]:
    """The lowest-scoring images, where the job recorded figures per image."""
    rows = job.results.get("per_image")
    if not isinstance(rows, list):
        return []
    scored = [r for r in rows if isinstance(r, dict) and isinstance(r.get("foreground_iou"), int | float)]
    return sorted(scored, key=lambda r: r["foreground_iou"])[:most]
