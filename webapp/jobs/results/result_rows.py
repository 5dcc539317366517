"""A job's results as figures for display, each with the values to compare it with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma

from webapp.jobs.models import Job
from webapp.jobs.results.headline import headline
from webapp.jobs.results.result_facts import BASIS
from webapp.jobs.results.segmentation_scores import SAID, interval_of

_NAMES = {
    "accuracy": "Accuracy",
    "beyond_grey": "Beyond grey values and chance",
    "cross_entropy": "Cross-entropy",
    "ab_error": "Colour error, class-balanced",
    "knn_accuracy": "kNN accuracy",
    "embedding_std": "Embedding spread",
    "effective_rank": "Effective rank",
    "confidence_drop": "Confidence drop",
    "random_correlation": "Correlation with random weights",
    "loss": "Loss",
    "empty_maps": "Empty maps",
}
_THREE_DECIMALS = {"accuracy", "beyond_grey", "chance", "grey_accuracy", "knn_accuracy", "embedding_std", "healthy_std"}
_THREE_DECIMALS |= {"confidence_drop", "random_correlation"}
_MEANS = {
    "confidence_drop": "with the brightest 20 % of the map hidden, mean over the maps",
    "random_correlation": "near 0 where the map depends on the training",
}
_BESIDE: dict[str, tuple[tuple[str, str], ...]] = {
    "accuracy": (("chance", "chance, the largest class"), ("grey_accuracy", "grey mean and variance alone")),
    "embedding_std": (("healthy_std", "healthy"),),
    "cross_entropy": (("marginal_cross_entropy", "the training colours' frequencies alone"),),
    "loss": (("marginal_loss", "the training colours' frequencies alone"),),
    "ab_error": (("constant_ab_error", "one constant colour"), ("grey_ab_error", "grey")),
}
"""Per figure: the value without any learning, or a healthy value."""
_ELSEWHERE = {"shows_nothing", "verdict"} | BASIS | SAID | {key for rows in _BESIDE.values() for key, _ in rows}


@dataclass(frozen=True)
class ResultRow:
    name: str
    text: str
    notes: tuple[str, ...]


def result_rows(job: Job) -> list[ResultRow]:
    """The figures that are neither in a table nor the headline: known ones in a fixed order, then others under their
    own names."""
    first = headline(job)
    said = _ELSEWHERE | ({first.key} if first else set())
    keys = [k for k in _NAMES if k in job.results] + [k for k in job.results if k not in _NAMES]
    rows = []
    for key in keys:
        value = job.results[key]
        if key in said or key.endswith("_interval") or isinstance(value, dict | list) or value is None:
            continue
        interval = interval_of(job.results, key)
        notes = (*notes_of(job.results, key), *([f"95 % interval {interval}"] if interval else []))
        rows.append(ResultRow(_NAMES.get(key, key.replace("_", " ").capitalize()), _text(key, value), notes))
    return rows


def notes_of(results: dict[str, Any], key: str) -> tuple[str, ...]:
    """Notes beside the figure `key`: its meaning, the value without any learning, a healthy value."""
    known = [(name, other, results.get(other)) for other, name in _BESIDE.get(key, ())]
    notes = [f"{name}: {_text(other, value)}" for name, other, value in known if isinstance(value, int | float)]
    return (*([_MEANS[key]] if key in _MEANS else []), *notes)


def _text(key: str, value: object) -> str:
    """Formats values between 0 and 1 with three decimals, other measured numbers with four digits."""
    if isinstance(value, float):
        return f"{value:.3f}" if key in _THREE_DECIMALS else f"{value:.4g}"
    return str(intcomma(value)) if isinstance(value, int) else str(value)
