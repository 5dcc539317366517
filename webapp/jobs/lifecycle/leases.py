"""Operations of a worker on a job that it has claimed. Every write carries the epoch of its claim and is refused once
another worker has claimed the job since: a worker that was silent too long cannot write.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from webapp.jobs.lifecycle.queue_order import queued_jobs
from webapp.jobs.lifecycle.transitions import job_transition
from webapp.jobs.models import OWNED, Job, State

LEASE = datetime.timedelta(seconds=settings.LEASE_SECONDS)


class Fenced(Exception):
    """The job belongs to another worker or to none: the caller must stop and write nothing more."""


def database_is_away(error: Error) -> bool:
    """Whether `error` means that the database cannot be reached, rather than that it rejected a statement."""
    state = getattr(error.__cause__, "sqlstate", None)
    # 08: connection; 57P01 to 57P03: shut down, crashed, or still starting; 25P03: it closed a transaction that was
    # idle. No state at all: nothing answered.
    return state is None or state.startswith(("08", "57P", "25P03"))


def job_claim(queue: str, *, worker: str, device: str) -> Job | None:
    """Claims the first queued job of `queue`; None if there is none.

    When two workers claim the same job, one UPDATE waits for the other and finds the state changed; that worker then
    tries the next job.
    """
    while True:
        first = queued_jobs(queue).first()
        if first is None:
            return None
        job = job_transition(
            first.pk,
            to=State.RUNNING,
            sources=[State.QUEUED],
            epoch=F("epoch") + 1,
            lease_until=Now() + LEASE,
            worker=worker,
            device=device,
            started_at=Coalesce(F("started_at"), Now()),
        )
        if job is not None:
            return job


def lease_renew(job_id: int, *, epoch: int) -> str:
    """Renews the lease and returns the request for the job: "", "pause" or "cancel". Raises Fenced."""
    mine = Job.objects.filter(pk=job_id, epoch=epoch, state__in=OWNED)
    if not mine.update(lease_until=Now() + LEASE):
        raise Fenced(f"Job {job_id} is no longer this worker's (attempt {epoch}).")
    return stop_wanted(job_id, epoch=epoch)


def stop_wanted(job_id: int, *, epoch: int) -> str:
    """The request for the job: "", "pause" or "cancel". Raises Fenced."""
    mine = Job.objects.filter(pk=job_id, epoch=epoch, state__in=OWNED)
    wanted = mine.values_list("stop_wanted", flat=True).first()
    if wanted is None:
        raise Fenced(f"Job {job_id} is no longer this worker's (attempt {epoch}).")
    return wanted


@contextmanager
def locked_attempt(job_id: int, *, epoch: int) -> Iterator[Job]:
    """A transaction that locks the job's row for attempt `epoch`. Raises Fenced if that no longer owns the job.

    All events of a job are written in such a transaction, so their ids are in commit order. A suspended worker must not
    hold the lock for ever: the server ends a transaction that is idle for half a lease.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            limit = str(int(settings.LEASE_SECONDS * 500))
            cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [limit])
        job = Job.objects.select_for_update().filter(pk=job_id, epoch=epoch, state__in=OWNED).first()
        if job is None:
            raise Fenced(f"Job {job_id} is no longer this worker's (attempt {epoch}).")
        yield job


WORTH_A_WORD = settings.LEASE_SECONDS / 2
"""A worker renews six times per lease: after half of one it has missed three. After a whole one it loses the job."""


def silent_seconds(job: Job) -> float | None:
    """Seconds since the last renewal of the lease, once these exceed WORTH_A_WORD; else, or without a worker, None."""
    if job.state not in OWNED or job.lease_until is None:
        return None
    silent = settings.LEASE_SECONDS - (job.lease_until - timezone.now()).total_seconds()
    return round(silent, 1) if silent >= WORTH_A_WORD else None
