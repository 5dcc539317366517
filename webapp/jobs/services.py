"""What users do with jobs: submit, cancel, pause, resume, retry, extend.

In `lifecycle`, `transitions.py` has the allowed changes of state, `leases.py` the operations of workers, `reaper.py`
the repairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from ml_core.specs import Refusal, Spec, SpecError, load_spec
from ml_core.specs.fields import TrainingSpec
from webapp.jobs.inputs import check_inputs, jobs_taken_from
from webapp.jobs.job_kinds import KINDS, default_name
from webapp.jobs.lifecycle.transitions import initial_state, job_transition
from webapp.jobs.lifecycle.worker_hints import send_hint
from webapp.jobs.models import UNCLAIMED, Event, Job, State
from webapp.projects.models import Project, User


def job_submit(
    *,
    project: Project,
    user: User | None,
    spec: Spec | Mapping[str, Any],
    inputs: Mapping[str, Any],
    name: str = "",
    after: Sequence[Job] = (),
    experiment_id: int | None = None,
    extends: Job | None = None,
) -> Job:
    """Queues a job; it waits until jobs in `after`, and jobs whose artifacts are its inputs, are done.

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
            experiment_id=experiment_id,
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
    """Sets a new job's first state, from the jobs that it depends on, and writes the event that records it."""
    job.state, job.reason = initial_state(job)
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
    """Cancels the job for good; a running trainer gets a few seconds to exit. False if there is nothing to cancel."""
    return _stop(job, wanted="cancel", to=State.CANCELLED, idle=UNCLAIMED, reason=_by("Cancelled", user))


def job_pause(job: Job, *, user: User | None) -> bool:
    """Stops the job with a checkpoint until a user resumes it. False if there is nothing to pause."""
    idle = (State.WAITING, State.QUEUED)
    return _stop(job, wanted="pause", to=State.PAUSED, idle=idle, reason=_by("Paused", user))


def _stop(job: Job, *, wanted: str, to: State, idle: Sequence[State], reason: str) -> bool:
    # In states without a worker the change is made here; for a running job it is requested, and the worker makes it.
    # Meanwhile a worker may claim or release the job, so both are tried again: each is a conditional update.
    for _ in range(3):
        if job_transition(job.pk, to=to, sources=idle, reason=reason):
            return True
        sources = [State.RUNNING] if wanted == "pause" else [State.RUNNING, State.STOPPING]
        if job_transition(job.pk, to=State.STOPPING, sources=sources, reason=reason, stop_wanted=wanted):
            return True
    return False


def _by(what: str, user: User | None) -> str:
    return f"{what} by {user.display_name}." if user else f"{what}."


def job_resume(job: Job, *, user: User | None) -> bool:
    """Queues a paused job again; it continues from its newest checkpoint."""
    return _again(job, source=State.PAUSED)


def job_retry(job: Job, *, user: User | None) -> bool:
    """Queues a failed or cancelled job again, with its failures reset, from its newest checkpoint."""
    return _again(job, source=State.FAILED) or _again(job, source=State.CANCELLED)


def _again(job: Job, *, source: State) -> bool:
    state, reason = initial_state(job)
    return job_transition(job.pk, to=state, sources=[source], reason=reason, failures=0) is not None


def job_extend(job: Job, *, user: User | None, epochs: int) -> Job:
    """Creates a job that continues a finished one for `epochs` more, from its full state. Raises SpecError."""
    spec = load_spec(job.spec)
    if job.state != State.DONE or not isinstance(spec, TrainingSpec):
        raise SpecError([Refusal("", f"{job} cannot be extended: only a training that is done can.")])
    if epochs < 1:
        raise SpecError([Refusal("epochs", "Enter the number of epochs: a whole number, 1 or more.")])
    return job_submit(
        project=job.project,
        user=user,
        spec={**job.spec, "epochs": job.spec["epochs"] + epochs},
        inputs=job.inputs,
        name=f"{job.name}, extended",
        extends=job,
    )


ACTIONS = {"cancel": job_cancel, "pause": job_pause, "resume": job_resume, "retry": job_retry}
"""Actions on an existing job, by the names in URLs and in `allowed_actions`."""
