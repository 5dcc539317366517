"""Every allowed change of a job's state, and the one function that makes it.

A change is a conditional UPDATE under the row's lock. In the same transaction, an event that records it is added to the
job's events; hints are sent after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from webapp.jobs.lifecycle.page_hints import hint_pages
from webapp.jobs.lifecycle.worker_hints import send_hint
from webapp.jobs.models import ENDED, OWNED, Event, Job, State

_BY_A_WORKER = frozenset({State.DONE, State.FAILED, State.PAUSED, State.CANCELLED, State.QUEUED})

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.WAITING: frozenset({State.QUEUED, State.PAUSED, State.CANCELLED}),
    State.QUEUED: frozenset({State.RUNNING, State.PAUSED, State.CANCELLED}),
    State.RUNNING: _BY_A_WORKER | {State.STOPPING},
    # A pause may become a cancel while the trainer still writes its checkpoint.
    State.STOPPING: _BY_A_WORKER | {State.STOPPING},
    State.PAUSED: frozenset({State.QUEUED, State.WAITING, State.CANCELLED}),
    State.FAILED: frozenset({State.QUEUED, State.WAITING}),
    State.CANCELLED: frozenset({State.QUEUED, State.WAITING}),
    State.DONE: frozenset(),
}


def job_transition(
    job_id: int,
    *,
    to: State,
    sources: Iterable[State] | None = None,
    of_epoch: int | None = None,
    reason: str = "",
    facts: Mapping[str, Any] | None = None,
    **values: Any,
) -> Job | None:
    """Changes a job's state to `to`; returns the updated job, or None if the transition is not (or no longer) allowed.

    `sources` restricts the states to change from, `of_epoch` the attempt; `values` are further columns, `facts` further
    entries of the event. If it returns None, nothing was written.
    """
    allowed = [s for s, targets in TRANSITIONS.items() if to in targets and (sources is None or s in sources)]
    with transaction.atomic():
        matching = Job.objects.filter(pk=job_id, state__in=allowed)
        if of_epoch is not None:
            matching = matching.filter(epoch=of_epoch)
        before = matching.select_for_update().values_list("state", flat=True).first()
        if before is None:
            return None
        columns = {"state": to, "reason": reason, **_columns(State(before), to), **values}
        if not matching.update(**columns):  # impossible under the lock; without a change, no event is written
            return None
        job = Job.objects.get(pk=job_id)
        data = {"from": before, "to": to, "reason": reason, "worker": job.worker, "device": job.device, **(facts or {})}
        Event.objects.create(job=job, epoch=job.epoch, kind="state", time=Now(), data=data)
        if to == State.QUEUED:
            transaction.on_commit(partial(send_hint, job_id, queue=job.queue))
        transaction.on_commit(partial(hint_pages, job_id))
        if to in ENDED or before in ENDED:
            release_followers(job)
    return job


def _columns(before: State, to: State) -> dict[str, Any]:
    """The columns that every transition to a state sets."""
    free = {"lease_until": None, "stop_wanted": "", "worker": "", "device": ""}
    if to == State.QUEUED:
        # A job that lost its worker keeps its place in the queue.
        place = {} if before in OWNED else {"queued_at": Now(), "turn": Now()}
        return {**free, **place, "hinted_at": Now(), "ended_at": None, "progress": {}}
    if to in (State.PAUSED, State.WAITING):
        return {**free, "ended_at": None}
    if to in ENDED:
        return {"lease_until": None, "stop_wanted": "", "ended_at": Now()}
    return {}


def initial_state(job: Job) -> tuple[State, str]:
    """Queued if all jobs that `job` depends on are done; else waiting, with the sentence that says for what."""
    before = list(job.after.exclude(state=State.DONE).order_by("pk"))
    if not before:
        return State.QUEUED, ""
    stuck = next((b for b in before if b.state in (State.FAILED, State.CANCELLED)), None)
    if stuck:
        how = "failed" if stuck.state == State.FAILED else "was cancelled"
        return State.WAITING, f"Waits: {stuck} {how}. Start that one again, or cancel this job."
    return State.WAITING, f"After {' and '.join(str(b) for b in before)}."


def job_release(job_id: int) -> None:
    """Queues a waiting job whose dependencies are done; else updates the reason why it waits."""
    with transaction.atomic():
        job = Job.objects.select_for_update(skip_locked=True).filter(pk=job_id, state=State.WAITING).first()
        if job is None:
            return
        state, reason = initial_state(job)
        if state == State.QUEUED:
            job_transition(job.pk, to=State.QUEUED, sources=[State.WAITING])
        elif reason != job.reason:
            Job.objects.filter(pk=job.pk, state=State.WAITING).update(reason=reason)
            transaction.on_commit(partial(hint_pages, job.pk))


def release_followers(job: Job) -> None:
    for follower in job.followers.filter(state=State.WAITING).order_by("pk").values_list("pk", flat=True):
        job_release(follower)
