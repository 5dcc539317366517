"""The basis of a job's figures, as sentences: images evaluated, threshold, weights, how results were computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_core.metrics.bootstrap import FEWEST_GROUPS
from ml_core.specs import SPECS, fields_of
from webapp.jobs.models import Job
from webapp.jobs.results.headline import headline, number_of

BASIS = frozenset(
    {"part", "images", "photographs", "groups", "origin", "steps", "features", "weight_decay", "method", "layer"}
    | {"judged_epoch", "judged_step", "best_epoch", "best_step", "size", "split"}
)
"""Results that appear in these sentences, and are not figures of their own."""


def fact_lines(job: Job) -> list[str]:
    """The basis of the figures, each fact once; `split`, a whole sentence already, is shown separately."""
    return list(_facts(job))


def _facts(job: Job) -> Iterator[str]:
    results = job.results
    first = headline(job)
    if (judged := _evaluated(results)) and not (first and first.key == "images"):
        yield judged
    if stacks := _stacks(results):
        yield stacks
    yield from _threshold(results)
    yield from _weights(results)
    yield from _made(job)


def _evaluated(results: dict[str, Any]) -> str:
    """ "measured on the test split: 8 images" """
    counted = [
        number_of(results[key], one, many)
        for key, one, many in (("images", "image", "images"), ("photographs", "photograph", "photographs"))
        if isinstance(results.get(key), int)
    ]
    if not counted:
        return ""
    if not results.get("part"):
        return counted[0]
    return f"measured on the {results['part']} split: {counted[0]}"


def _stacks(results: dict[str, Any]) -> str:
    """The number of stacks behind the confidence interval, or that there are too few for one."""
    groups = results.get("groups")
    if not isinstance(groups, int) or not groups:
        return ""
    known = any(key.endswith("_interval") and value for key, value in results.items())
    return f"n = {number_of(groups, 'stack', 'stacks')}" + ("" if known or groups >= FEWEST_GROUPS else ", no interval")


def _threshold(results: dict[str, Any]) -> Iterator[str]:
    threshold, at_half = results.get("threshold"), results.get("foreground_iou_at_half")
    if not isinstance(threshold, int | float):
        return
    yield f"threshold {threshold:.2f}" + (
        f" (at 0.50 the foreground IoU is {at_half:.3f})" if threshold != 0.5 and isinstance(at_half, float) else ""
    )


def _weights(results: dict[str, Any]) -> Iterator[str]:
    """Which weights were evaluated, and which were best on the validation split."""
    best, judged = results.get("best_step"), results.get("judged_step", results.get("best_step"))
    if not isinstance(judged, int):
        return
    epoch = results.get("judged_epoch", results.get("best_epoch"))
    yield f"weights of {_place(epoch, judged)}" + (", the best on validation" if best == judged else "")
    if isinstance(best, int) and best != judged:
        yield f"best on validation: {_place(results.get('best_epoch'), best)}"


def _place(epoch: object, step: int) -> str:
    return (f"epoch {epoch:,}, " if isinstance(epoch, int) else "") + f"step {step:,}"


def _made(job: Job) -> Iterator[str]:
    """What was computed with which settings, in the labels of the job's form."""
    results = job.results
    labels = {info.name: dict(info.choices) for info in fields_of(job.kind)} if job.kind in SPECS else {}
    for key in ("method", "layer"):
        if key in results:
            yield f"{key} {labels.get(key, {}).get(str(results[key]), results[key])}"
    if isinstance(results.get("size"), int):
        yield f"colour planes of {results['size']} px"
    if isinstance(results.get("steps"), int):
        yield number_of(results["steps"], "step", "steps")
    if isinstance(results.get("features"), int):
        yield f"{number_of(results['features'], 'feature', 'features')} per image"
    if isinstance(results.get("weight_decay"), int | float):
        yield f"weight decay {results['weight_decay']:.3g}, chosen on validation"
    if results.get("origin"):
        yield f"{'colours' if job.kind == 'colorize' else 'encoder'}: {results['origin']}"
