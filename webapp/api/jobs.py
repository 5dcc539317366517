"""Jobs: submit, list, follow, move, act."""

from __future__ import annotations

from typing import Any, Literal

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from ml_core.specs import SpecError
from webapp.api.auth import asker
from webapp.jobs import services
from webapp.jobs.lifecycle import events, queue_order, snapshot
from webapp.jobs.models import Job
from webapp.projects.access import get_administered, get_editable, get_visible, visible
from webapp.projects.models import Project

router = Router(tags=["jobs"])


class JobIn(Schema):
    project: int
    spec: dict[str, Any]
    inputs: dict[str, Any] = Field(default_factory=dict)
    name: str = ""
    after: list[int] = Field(default_factory=list)


class RefusalOut(Schema):
    field: str
    sentence: str


class MoveIn(Schema):
    to: queue_order.Where


class MoveRefusedOut(Schema):
    sentence: str


@router.get("", response=list[dict[str, Any]])
def list_jobs(request: HttpRequest, project: int | None = None, limit: int = 100) -> object:
    """The newest jobs first, at most 1,000."""
    user = asker(request)
    found = visible(Job.objects.exclude(kind="intake"), user)
    if project is not None:
        found = found.filter(project=get_visible(Project.objects.all(), user, project="", pk=project))
    return [snapshot.snapshot(job) for job in found[: max(1, min(limit, 1000))]]


@router.post("", response={201: dict[str, Any], 422: list[RefusalOut]})
def submit_job(request: HttpRequest, wanted: JobIn) -> object:
    """Queues a job; 422 with one sentence per field where the specification cannot be used."""
    user = asker(request)
    project = get_editable(Project.objects.all(), user, project="", pk=wanted.project)
    after = [get_visible(Job.objects.filter(project=project), user, pk=pk) for pk in wanted.after]
    try:
        job = services.job_submit(
            project=project, user=user, spec=wanted.spec, inputs=wanted.inputs, name=wanted.name, after=after
        )
    except SpecError as error:
        return Status(422, [{"field": r.field, "sentence": r.sentence} for r in error.refusals])
    return Status(201, snapshot.snapshot(job))


@router.get("/{job_id}", response=dict[str, Any])
def get_job(request: HttpRequest, job_id: int) -> object:
    job = get_visible(Job.objects.all(), asker(request), pk=job_id)
    return {**snapshot.snapshot(job), "spec": job.spec, "inputs": job.inputs, "record": job.record}


@router.get("/{job_id}/events", response=list[dict[str, Any]])
def list_events(request: HttpRequest, job_id: int, after: int = 0) -> object:
    """Events after the cursor, at most 2,000; ask again with the last id until the list is empty."""
    job = get_visible(Job.objects.all(), asker(request), pk=job_id)
    return events.events_after(job, after)


@router.post("/{job_id}/move", response={200: list[int], 409: MoveRefusedOut})
def move_job(request: HttpRequest, job_id: int, wanted: MoveIn) -> object:
    """One place up or down in its queue, or to the front; answers the ids of the caller's queued jobs, in order.

    409 with a sentence where it stays: it has begun, is at that end already, or the job before it is another project's.
    """
    user = asker(request)
    job = get_administered(Job.objects.all(), user, pk=job_id)
    try:
        queue_order.job_move(job, user=user, where=wanted.to)
    except queue_order.MoveRefused as refused:
        return Status(409, {"sentence": str(refused)})
    return [job.pk for job in visible(queue_order.queued_jobs(job.queue), user)]


@router.post("/{job_id}/{action}", response=dict[str, Any])
def act_on_job(request: HttpRequest, job_id: int, action: Literal["cancel", "pause", "resume", "retry"]) -> object:
    user = asker(request)
    job = get_editable(Job.objects.all(), user, pk=job_id)
    services.ACTIONS[action](job, user=user)
    job.refresh_from_db()
    return snapshot.snapshot(job)
