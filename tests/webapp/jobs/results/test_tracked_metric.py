"""The quantity that stands for a job while it runs."""

from __future__ import annotations

import pytest

from webapp.jobs.models import Event, Job
from webapp.jobs.results.tracked_metric import watched, watched_after


def heard(kind: str, *points: tuple[str, int, float | None]) -> Job:
    """A job of 10 steps per epoch that has said these points, one batch each."""
    job = Job(kind=kind, record={"steps_per_epoch": 10})
    for name, step, value in points:
        job.watched = watched_after(job, [Event(name=name, step=step, value=value)])
    return job


IOU, LOSS = "foreground_iou/validation", "loss/train"


def test_a_segmentation_shows_its_loss_until_it_is_validated_and_then_its_best_with_the_epoch() -> None:
    job = heard("segment", (LOSS, 5, 0.9), (LOSS, 10, 0.7))
    said = watched(job)
    assert said
    assert (said.words, said.value, said.best) == ("loss", 0.7, None)
    job = heard("segment", (LOSS, 10, 0.7), (IOU, 10, 0.81), (LOSS, 15, 0.6), (IOU, 20, 0.84), (IOU, 30, 0.83))
    said = watched(job)
    assert said
    assert (said.words, said.value) == ("validation foreground IoU", 0.83)
    assert (said.best, said.best_epoch) == (0.84, 2)


def test_a_loss_has_no_best_as_a_collapsed_embedding_would_win() -> None:
    said = watched(heard("pretrain", (LOSS, 10, 1.2), (LOSS, 20, 0.0), (LOSS, 30, 0.4)))
    assert said
    assert (said.value, said.best, said.best_epoch) == (0.4, None, None)


def test_a_value_that_is_not_finite_stands_for_nothing() -> None:
    said = watched(heard("segment", (IOU, 10, 0.5), (IOU, 20, None)))
    assert said
    assert said.value == 0.5


@pytest.mark.parametrize("kind", ["cam", "colorize", "intake", "segment"])
def test_a_job_without_a_curve_has_none(kind: str) -> None:
    assert watched(heard(kind)) is None
