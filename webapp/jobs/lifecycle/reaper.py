"""Repairs queue state: ends expired leases, resends lost hints, releases waiting jobs whose inputs are ready.

Several may run at once: every change is a conditional update. Times are compared with the database's clock.
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
"""The row's lease is written a little before the trainer's own begins, so it must be over by more than that."""

INTERVAL = min(2.0, settings.LEASE_SECONDS / 6)


class Reaper:
    """The state of one loop: since when the database has been reachable.

    While the database is away a supervisor keeps its trainer running (docs/decisions/database-away.md) and renews as
    soon as the database is back. So for one lease after that, an expired lease does not prove that a worker is gone.
    """

    def __init__(self) -> None:
        self._watching_since = time.monotonic()

    def lost_sight(self) -> None:
        """Records that the database was just unreachable."""
        self._watching_since = time.monotonic()

    def round(self) -> int:
        """Runs all checks once; returns the number of jobs whose lease had expired."""
        self._release_waiting()
        ended = self._end_leases() if self._may_reap() else 0
        self._hint_again()
        return ended

    def _may_reap(self) -> bool:
        if time.monotonic() - self._watching_since < settings.LEASE_SECONDS:
            return False
        with connection.cursor() as cursor:
            # Also if this process was suspended during a restart of the database.
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
                # A busy worker does not consume hints: there never need be more hints than jobs.
                room = queued.count() - hints_waiting(queue) if due else 0
            except redis.RedisError as error:
                log.warning("The broker does not answer; queued jobs wait and are safe: %s", error)
                return
            for pk in due[: max(0, room)]:
                send_hint(pk, queue=queue)
                Job.objects.filter(pk=pk, state=State.QUEUED).update(hinted_at=Now())


def lease_end(job_id: int) -> bool:
    """Takes a job from a worker whose lease has expired; False if it renewed meanwhile, or the row is locked."""
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
    # A trainer may have written another checkpoint as it exited, which is not recorded in the database.
    if job.checkpoint_step is None:
        return (
            "It starts again from its newest checkpoint, or the beginning if there is none; no recorded point is lost."
        )
    return f"It goes on from step {job.checkpoint_step:,} or later; no recorded point is lost."
