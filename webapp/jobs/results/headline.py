"""The headline figure of a job in lists, and the context that makes it meaningful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webapp.jobs.models import Job

# Keys of `Job.results` with their labels, by kind; the first that is present is the headline.
_FIGURES: dict[str, tuple[tuple[str, str], ...]] = {
    "segment": (("foreground_iou", "foreground IoU"), ("mean_iou", "mean IoU")),
    "pretrain": (("knn_accuracy", "kNN accuracy"), ("embedding_std", "embedding spread"), ("loss", "loss")),
    "classify": (("accuracy", "accuracy"),),
    "train_colorizer": (("cross_entropy", "cross-entropy"), ("ab_error", "colour error")),
    "colorize": (("images", "images"),),
    "cam": (("confidence_drop", "confidence drop"), ("images", "maps")),
}


@dataclass(frozen=True)
class Figure:
    """One headline figure: its key in the results, its label, its value and interval, and a detail shown beside it."""

    key: str
    name: str
    value: float
    low: float | None
    high: float | None
    detail: str

    @property
    def text(self) -> str:
        return f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:.3f}"

    @property
    def interval(self) -> str:
        return "" if self.low is None or self.high is None else f"[{self.low:.2f}, {self.high:.2f}]"


def headline(job: Job) -> Figure | None:
    """The headline figure of a job; None while it has no results."""
    for key, name in _FIGURES.get(job.kind, ()):
        value = job.results.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = _interval(job.results, key)
            return Figure(key=key, name=name, value=value, low=low, high=high, detail=_detail(job.results, key))
    return None


def _interval(results: dict[str, Any], key: str) -> tuple[float | None, float | None]:
    pair = results.get(f"{key}_interval")
    if isinstance(pair, list | tuple) and len(pair) == 2:
        return pair[0], pair[1]
    return None, None


def _detail(results: dict[str, Any], key: str) -> str:
    parts = []
    if key != "images" and isinstance(results.get("images"), int):
        parts.append(number_of(results["images"], "image", "images"))
    if isinstance(results.get("groups"), int) and results["groups"]:
        parts.append(number_of(results["groups"], "stack", "stacks"))
    if results.get("part"):
        parts.append(f"{results['part']} split")
    return ", ".join(parts)


def number_of(value: int, one: str, many: str) -> str:
    """ "1 stack", "1,033 images": the number with the singular or plural noun."""
    return f"{value:,} {one if value == 1 else many}"
