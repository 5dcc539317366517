"""What a worker may do with a job that it has claimed. Every write carries the epoch of its claim and is refused once
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
    """The job is another worker's by now, or nobody's: whoever meets this must stop and write nothing more."""


def database_is_away(error: Error) -> bool:
    """Whether `error` says that there is no database to ask, rather than that it refused what was asked."""
    state = getattr(error.__cause__, "sqlstate", None)
    # 08: connection; 57P01 to 57P03: shut down, crashed, or not yet up; 25P03: it has hung up on a transaction that
    # idled. No state at all: nobody answered.
    return state is None or state.startswith(("08", "57P", "25P03"))


def job_claim(queue: str, *, worker: str, device: str) -> Job | None:
    """Claims the first queued job of `queue`; None when there is none.

    Two workers that reach for the same job: one UPDATE waits for the other, finds the state changed, and its worker
    reaches for the next.
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
    """Renews the lease and returns what is wanted of the job: "", "pause" or "cancel". Raises Fenced."""
    mine = Job.objects.filter(pk=job_id, epoch=epoch, state__in=OWNED)
    if not mine.update(lease_until=Now() + LEASE):
        raise Fenced(f"Job {job_id} is no longer this worker's (attempt {epoch}).")
    return stop_wanted(job_id, epoch=epoch)


def stop_wanted(job_id: int, *, epoch: int) -> str:
    """What is wanted of the job: "", "pause" or "cancel". Raises Fenced."""
    mine = Job.objects.filter(pk=job_id, epoch=epoch, state__in=OWNED)
    wanted = mine.values_list("stop_wanted", flat=True).first()
    if wanted is None:
        raise Fenced(f"Job {job_id} is no longer this worker's (attempt {epoch}).")
    return wanted


@contextmanager
def locked_attempt(job_id: int, *, epoch: int) -> Iterator[Job]:
    """A transaction that holds the job's row, as only attempt `epoch` may. Raises Fenced where it has been fenced.

    All events of a job are written inside, so their ids are in the order of their commits. A worker that is stopped
    in the middle must not hold the row for ever: the server ends a transaction that is idle for half a lease.
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
    """Seconds since the worker last renewed its lease, once that is worth a word; else, and without a worker, None."""
    if job.state not in OWNED or job.lease_until is None:
        return None
    silent = settings.LEASE_SECONDS - (job.lease_until - timezone.now()).total_seconds()
    return round(silent, 1) if silent >= WORTH_A_WORD else None
