"""Estimates how long a job takes, from a similar finished one, and when each queued job starts.

Nothing is guessed: where one figure is unknown, every figure derived from it is None too.
"""

from __future__ import annotations

import datetime
import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import F

from ml_core.specs import Spec, SpecError, load_spec
from webapp.datasets.models import Revision
from webapp.jobs.inputs import revision_in
from webapp.jobs.lifecycle.leases import silent_seconds
from webapp.jobs.models import Job, State
from webapp.projects.models import Project

FORETOLD = 30
"""Start times are estimated for so many queued jobs: each estimate costs a query for similar jobs."""

_DECIDE = ("encoder", "decoder", "decoder_width", "weights", "framing", "resolution", "views", "method", "network")
"""The fields that determine the time per pixel."""


def similar_run(spec: Spec, project: Project) -> Job | None:
    """The newest finished run of the same kind and network, in this project, that was never interrupted."""
    runs = Job.objects.filter(project=project, kind=spec.kind, state=State.DONE, epoch=1, ended_at__gt=F("started_at"))
    same = {f"spec__{name}": getattr(spec, name) for name in _DECIDE if hasattr(spec, name)}
    return runs.filter(**same).first()


def seconds_like(spec: Spec, revision: Revision, run: Job) -> float | None:
    """The seconds that `run` took, scaled by epochs, images and pixels; None where these are unknown."""
    its = revision_in(run.inputs)
    if not its or not its.items_count or not run.ended_at or not run.started_at:
        return None
    then = _work(run.spec, its.items_count)
    return (run.ended_at - run.started_at).total_seconds() * _work(spec.model_dump(), revision.items_count) / then


def _work(spec: dict[str, Any], images: int) -> float:
    # An epoch of crops covers each pixel of each image about once, whatever the size of a crop.
    seen = 1 if spec.get("framing") == "crops" else spec.get("image_size", 1) ** 2
    return float(spec.get("epochs", 1) * images * seen)


def seconds_wanted(job: Job) -> float | None:
    """Expected run time of a queued job: that of a similar run, less the part that its checkpoint already covers."""
    revision = revision_in(job.inputs)
    try:
        spec = load_spec(job.spec)
    except SpecError:
        return None
    run = similar_run(spec, job.project) if revision else None
    seconds = seconds_like(spec, revision, run) if revision and run else None
    total = job.record.get("total_steps")
    if seconds is None or not job.checkpoint_step or not total:
        return seconds
    return seconds * max(0.0, 1 - job.checkpoint_step / total)


def seconds_left(job: Job) -> float | None:
    """Remaining run time of a running job as its trainer last reported it; None while unknown."""
    left = job.progress.get("left")
    # The rest of one stage is not the rest of the job; and the last report of a silent worker is out of date.
    if job.state != State.RUNNING or job.progress.get("stage") or silent_seconds(job) is not None:
        return None
    return float(left) if isinstance(left, int | float) else None


def starts(
    queued: Sequence[Job], running: Iterable[Job], *, slots: int, now: datetime.datetime
) -> dict[int, datetime.datetime]:
    """Job id -> estimated start time, for the queued jobs of one queue in their order; unknown ones are left out.

    `slots`: how many jobs run at once.
    """
    free: list[float | None] = [seconds_left(job) for job in running]
    free += [0.0] * (slots - len(free))
    # The device that is free first takes the next job: if one device is unknown, no start time can be estimated.
    known = [seconds for seconds in free if seconds is not None]
    if not known or len(known) < len(free):
        return {}
    heapq.heapify(known)
    found = {}
    for job in queued:
        found[job.pk] = now + datetime.timedelta(seconds=known[0])
        seconds = seconds_wanted(job)
        if seconds is None:
            break
        heapq.heapreplace(known, known[0] + seconds)
    return found
