"""What people ask of jobs: submit, cancel, pause, resume, retry, extend; and what a job's page is told.

`transitions.py` holds the table of allowed changes, `ownership.py` what workers ask, `reaper.py` what mends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from ml_core.specs import SPECS, Refusal, Spec, SpecError, load_spec
from ml_core.specs.fields import TrainingSpec
from webapp.experiments.models import Experiment
from webapp.jobs.inputs import check_inputs, jobs_taken_from
from webapp.jobs.job_kinds import KINDS, default_name
from webapp.jobs.lifecycle.events import events_after
from webapp.jobs.lifecycle.heartbeats import workers
from webapp.jobs.lifecycle.transitions import TRANSITIONS, change, standing
from webapp.jobs.lifecycle.worker_hints import send_hint
from webapp.jobs.models import OWNED, Event, Job, State
from webapp.jobs.silence import silent_seconds
from webapp.projects.models import Project, User

__all__ = [
    "TRANSITIONS",
    "events_after",
    "job_cancel",
    "job_extend",
    "job_pause",
    "job_resume",
    "job_retry",
    "job_submit",
    "may",
    "snapshot",
    "workers",
]

_IDLE = (State.WAITING, State.QUEUED, State.PAUSED)


def job_submit(
    *,
    project: Project,
    user: User | None,
    spec: Spec | Mapping[str, Any],
    inputs: Mapping[str, Any],
    name: str = "",
    after: Sequence[Job] = (),
    experiment: Experiment | None = None,
    extends: Job | None = None,
) -> Job:
    """Queues a job; it waits while jobs in `after`, or jobs that its inputs take from, are not done.

    `inputs`: slot -> {"revision": id} | {"job": id, "artifact": kind} | {"upload": id}. Raises SpecError with one
    sentence per field or slot at fault.
    """
    checked = spec if isinstance(spec, Spec) else load_spec(spec)
    given = {slot: reference for slot, reference in inputs.items() if reference is not None}
    refused = check_inputs(checked, given, project=project)
    refused += [Refusal("after", f"{job} is in another project.") for job in after if job.project_id != project.pk]
    if refused:
        raise SpecError(refused)
    with transaction.atomic():
        job = Job.objects.create(
            project=project,
            experiment=experiment,
            kind=checked.kind,
            name=name.strip()[:200] or default_name(checked, given),
            spec=checked.model_dump(mode="json"),
            inputs=given,
            extends=extends,
            state=State.WAITING,
            queue=KINDS[checked.kind].queue,
            created_by=user,
        )
        job.after.set({*(j.pk for j in after), *jobs_taken_from(given), *([extends.pk] if extends else [])})
        _place(job)
    return job


def _place(job: Job) -> None:
    """A new job's first state, by the jobs that it comes after, and the event that tells of it."""
    job.state, job.reason = standing(job)
    queued = job.state == State.QUEUED
    Job.objects.filter(pk=job.pk, state=State.WAITING).update(
        state=job.state,
        reason=job.reason,
        queued_at=Now() if queued else None,
        turn=Now(),
        hinted_at=Now() if queued else None,
    )
    Event.objects.create(
        job=job,
        epoch=0,
        kind="state",
        time=Now(),
        data={"from": None, "to": job.state, "reason": job.reason, "worker": "", "device": ""},
    )
    if queued:
        transaction.on_commit(partial(send_hint, job.pk, queue=job.queue))


def job_cancel(job: Job, *, user: User | None) -> bool:
    """Ends the job for good; a running trainer gets a few seconds to leave. False where there is nothing to cancel."""
    return _stop(job, wanted="cancel", to=State.CANCELLED, idle=_IDLE, reason=_by("Cancelled", user))


def job_pause(job: Job, *, user: User | None) -> bool:
    """Stops the job with a checkpoint until somebody resumes it. False where there is nothing to pause."""
    idle = (State.WAITING, State.QUEUED)
    return _stop(job, wanted="pause", to=State.PAUSED, idle=idle, reason=_by("Paused", user))


def _stop(job: Job, *, wanted: str, to: State, idle: Sequence[State], reason: str) -> bool:
    # From the idle states the change is made here; a running job is asked, and its worker makes the change. Between
    # the two a worker may claim it or let go of it, so both are tried again: each is a conditional update.
    for _ in range(3):
        if change(job.pk, to=to, sources=idle, reason=reason):
            return True
        sources = [State.RUNNING] if wanted == "pause" else [State.RUNNING, State.STOPPING]
        if change(job.pk, to=State.STOPPING, sources=sources, reason=reason, stop_wanted=wanted):
            return True
    return False


def _by(what: str, user: User | None) -> str:
    return f"{what} by {user.display_name}." if user else f"{what}."


def job_resume(job: Job, *, user: User | None) -> bool:
    """Queues a paused job again; it goes on from its newest checkpoint."""
    return _again(job, source=State.PAUSED)


def job_retry(job: Job, *, user: User | None) -> bool:
    """Queues a failed or cancelled job again, with a clean count of failures, from its newest checkpoint."""
    return _again(job, source=State.FAILED) or _again(job, source=State.CANCELLED)


def _again(job: Job, *, source: State) -> bool:
    state, reason = standing(job)
    return change(job.pk, to=state, sources=[source], reason=reason, failures=0) is not None


def job_extend(job: Job, *, user: User | None, epochs: int) -> Job:
    """A new job that carries a finished one on by `epochs` more epochs, from its full state. Raises SpecError."""
    spec = load_spec(job.spec)
    if job.state != State.DONE or not isinstance(spec, TrainingSpec):
        raise SpecError([Refusal("", f"{job} cannot be extended: only a training that is done can.")])
    if epochs < 1:
        raise SpecError([Refusal("epochs", "Say by how many epochs: a whole number, 1 or more.")])
    return job_submit(
        project=job.project,
        user=user,
        spec={**job.spec, "epochs": job.spec["epochs"] + epochs},
        inputs=job.inputs,
        name=f"{job.name}, extended",
        extends=job,
    )


def may(job: Job) -> list[str]:
    """What can be done with the job now, whoever asks: rights are checked at the door."""
    state = State(job.state)
    found = []
    if state in _IDLE or (state in OWNED and job.stop_wanted != "cancel"):
        found.append("cancel")
    if state in (State.WAITING, State.QUEUED, State.RUNNING):
        found.append("pause")
    if state == State.PAUSED:
        found.append("resume")
    if state in (State.FAILED, State.CANCELLED):
        found.append("retry")
    if job.kind != "intake":
        found.append("clone")
    if state == State.DONE and job.kind in SPECS and issubclass(SPECS[job.kind], TrainingSpec):
        found.append("extend")
    return found


def snapshot(job: Job) -> dict[str, Any]:
    """The job as a page shows it above its curves (docs/contracts.md)."""
    return {
        "id": job.pk,
        "name": job.name,
        "kind": job.kind,
        "state": job.state,
        "state_label": job.get_state_display(),
        "reason": job.reason,
        "stop_wanted": job.stop_wanted,
        "epoch": job.epoch,
        "attempt": job.epoch,
        "step": job.step,
        "total_steps": job.record.get("total_steps"),
        "steps_per_epoch": job.record.get("steps_per_epoch"),
        "checkpoint_step": job.checkpoint_step,
        "progress": job.progress,
        "results": job.results,
        "device": job.device,
        "worker": job.worker,
        "silent_seconds": silent_seconds(job),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
        "may": may(job),
    }
