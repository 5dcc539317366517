"""From half a lease on, a worker's silence stands where rate and time left stood."""

from __future__ import annotations

import datetime

import pytest
from django.conf import settings
from django.utils import timezone

from tests.counting import make_revision, pretrain
from webapp.jobs.lifecycle.leases import job_claim
from webapp.jobs.lifecycle.snapshot import snapshot
from webapp.jobs.models import Job
from webapp.jobs.results.progress_text import progress_words
from webapp.projects.models import Project


@pytest.fixture
def running(project: Project) -> Job:
    pretrain(make_revision(project))
    job = job_claim("device", worker="w", device="cpu")
    assert job
    job.progress = {"stage": "", "done": 107, "total": 900, "unit": "steps", "rate": 14.2, "left": 1320}
    return job


def fall_silent(job: Job, *, leases: float) -> None:
    """As if the worker had renewed that part of a lease ago."""
    job.lease_until = timezone.now() + datetime.timedelta(seconds=settings.LEASE_SECONDS * (1 - leases))


def test_a_worker_that_was_heard_a_moment_ago_is_not_called_silent(running: Job) -> None:
    fall_silent(running, leases=0.4)
    assert snapshot(running)["silent_seconds"] is None
    assert progress_words(running) == "107 of 900 steps · 14 steps/s · about 22 min left"


def test_after_half_a_lease_the_silence_is_said_and_the_pace_no_more(running: Job) -> None:
    fall_silent(running, leases=0.6)
    seconds = snapshot(running)["silent_seconds"]
    assert 0.6 * settings.LEASE_SECONDS <= seconds < settings.LEASE_SECONDS
    assert progress_words(running).startswith("107 of 900 steps · no signal from the worker for ")
    assert "steps/s" not in progress_words(running)
    assert "left" not in progress_words(running)


def test_a_job_that_nobody_has_is_not_silent(project: Project) -> None:
    assert snapshot(pretrain(make_revision(project)))["silent_seconds"] is None
