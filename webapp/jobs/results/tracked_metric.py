"""The one metric that lists show of a running job: its last value, and its best if there is a better direction.

The collector stores it on the row, so that a list of jobs reads no curves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from webapp.jobs.models import Event, Job


@dataclass(frozen=True)
class _Quantity:
    """A curve's name and its label. `higher`: higher is better, so that the best value is worth keeping."""

    name: str
    words: str
    higher: bool = False


_LOSS = _Quantity("loss/train", "loss")
# The first that has points is shown. A loss has no best: BYOL's is lowest when the embedding has collapsed.
_QUANTITIES: dict[str, tuple[_Quantity, ...]] = {
    "segment": (_Quantity("foreground_iou/validation", "validation foreground IoU", higher=True), _LOSS),
    "classify": (_Quantity("accuracy/validation", "validation accuracy", higher=True), _LOSS),
    "pretrain": (_Quantity("knn_accuracy/validation", "kNN accuracy", higher=True), _LOSS),
    "train_colorizer": (_Quantity("loss/validation", "validation loss"), _LOSS),
}


@dataclass(frozen=True)
class TrackedMetric:
    """A job's value so far. `best` and its epoch are None for a metric of which lower is no better."""

    words: str
    value: float
    best: float | None
    best_epoch: int | None


def watched(job: Job) -> TrackedMetric | None:
    """The tracked metric of `job`; None before its first point, and for kinds without curves."""
    kept = job.watched
    quantity = next((q for q in _QUANTITIES.get(job.kind, ()) if q.name == kept.get("name")), None)
    if quantity is None:
        return None
    best, per_epoch = kept.get("best"), job.record.get("steps_per_epoch")
    epoch = math.ceil(kept["best_step"] / per_epoch) if best is not None and per_epoch else None
    return TrackedMetric(quantity.words, kept["value"], best, epoch)


def watched_after(job: Job, points: Iterable[Event]) -> dict[str, Any]:
    """The value of `job.watched` after further points, which are in the order in which they were reported."""
    kept = dict(job.watched)
    quantities = _QUANTITIES.get(job.kind, ())
    names = [q.name for q in quantities]
    for point in points:
        if point.name not in names or point.value is None:
            continue
        if kept.get("name") not in names[: names.index(point.name) + 1]:
            kept = {"name": point.name}
        if kept["name"] != point.name:
            continue
        kept["value"] = point.value
        if quantities[names.index(point.name)].higher and point.value > kept.get("best", -math.inf):
            kept |= {"best": point.value, "best_step": point.step}
    return kept
