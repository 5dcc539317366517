"""Mends what nobody else will: leases that ended, hints that were lost, jobs that wait for nothing.

Safe to run many times over: every change is a conditional update. Time is the database's.
"""

from __future__ import annotations

import datetime
import logging
import time

import redis
from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from webapp.jobs.lifecycle.queue_order import queued_jobs
from webapp.jobs.lifecycle.transitions import job_release, job_transition
from webapp.jobs.lifecycle.worker_hints import hints_waiting, send_hint
from webapp.jobs.models import OWNED, Job, Queue, State

log = logging.getLogger(__name__)

LEASE = datetime.timedelta(seconds=settings.LEASE_SECONDS)
MARGIN = LEASE / 10
"""A trainer's own lease ends a little after its supervisor wrote the row: the row's must be over by more than that."""

INTERVAL = min(2.0, settings.LEASE_SECONDS / 6)


class Reaper:
    """One loop's memory: since when it has had a database to look at.

    A supervisor whose database is away keeps its trainer at work (docs/decisions/database-away.md). It renews as
    soon as the database is back, so for one lease after that an expired lease proves nothing.
    """

    def __init__(self) -> None:
        self._watching_since = time.monotonic()

    def lost_sight(self) -> None:
        """The database was away just now."""
        self._watching_since = time.monotonic()

    def round(self) -> int:
        """Looks once at everything; returns the number of jobs whose lease had ended."""
        self._release_waiting()
        ended = self._end_leases() if self._may_reap() else 0
        self._hint_again()
        return ended

    def _may_reap(self) -> bool:
        if time.monotonic() - self._watching_since < settings.LEASE_SECONDS:
            return False
        with connection.cursor() as cursor:
            # Also where this loop slept through a restart of the database.
            up = "extract(epoch FROM now() - pg_postmaster_start_time())"
            cursor.execute(f"SELECT {up} > %s", [settings.LEASE_SECONDS])
            return bool(cursor.fetchone()[0])

    def _end_leases(self) -> int:
        expired = Job.objects.filter(state__in=OWNED, lease_until__lt=Now() - MARGIN)
        return sum(lease_end(pk) for pk in expired.values_list("pk", flat=True))

    def _release_waiting(self) -> None:
        for pk in Job.objects.filter(state=State.WAITING).order_by("pk").values_list("pk", flat=True):
            job_release(pk)

    def _hint_again(self) -> None:
        long_ago = Now() - datetime.timedelta(seconds=settings.HINT_AGAIN_SECONDS)
        for queue in Queue.values:
            queued = queued_jobs(queue)
            due = list(queued.filter(hinted_at__lt=long_ago).values_list("pk", flat=True)[:100])
            try:
                # A busy worker leaves hints where they are: there need never be more of them than jobs.
                room = queued.count() - hints_waiting(queue) if due else 0
            except redis.RedisError as error:
                log.warning("The broker does not answer; queued jobs wait and are safe: %s", error)
                return
            for pk in due[: max(0, room)]:
                send_hint(pk, queue=queue)
                Job.objects.filter(pk=pk, state=State.QUEUED).update(hinted_at=Now())


def lease_end(job_id: int) -> bool:
    """Takes a job from a worker that has not renewed its lease; False if it has by now, or a writer is at the row."""
    with transaction.atomic():
        expired = Job.objects.select_for_update(skip_locked=True).filter(
            pk=job_id, state__in=OWNED, lease_until__lt=Now() - MARGIN
        )
        job = expired.first()
        if job is None or job.lease_until is None:
            return False
        silent_since = timezone.localtime(job.lease_until - LEASE)
        said = f"The worker fell silent at {silent_since:%H:%M}."
        lost = {"lost": True}
        if job.stop_wanted == "cancel":
            reason = f"{job.reason} {said}".strip()
            return job_transition(job_id, to=State.CANCELLED, of_epoch=job.epoch, reason=reason, facts=lost) is not None
        if job.stop_wanted == "pause":
            reason = f"{job.reason} {said} {_kept(job)}".strip()
            return job_transition(job_id, to=State.PAUSED, of_epoch=job.epoch, reason=reason, facts=lost) is not None
        reason = f"{said} {_kept(job)}"
        return job_transition(job_id, to=State.QUEUED, of_epoch=job.epoch, reason=reason, facts=lost) is not None


def _kept(job: Job) -> str:
    # A trainer may have written another checkpoint on leaving, of which nobody has told the database yet.
    if job.checkpoint_step is None:
        return (
            "It starts again from its newest checkpoint, or the beginning if there is none; no recorded point is lost."
        )
    return f"It goes on from step {job.checkpoint_step:,} or later; no recorded point is lost."
