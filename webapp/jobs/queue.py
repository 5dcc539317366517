"""What the queue page says: per queue what runs, then what comes next in order; what waits or is paused, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db.models import F

from webapp.jobs import services
from webapp.jobs.models import OWNED, Job, Queue, State
from webapp.projects.access import may_edit, projects_of
from webapp.projects.models import User

_TITLES = {
    Queue.DEVICE: ("Training", "One job per device, oldest first."),
    Queue.INTERACTIVE: ("Maps and predictions", "Short work on the CPU; never waits for a training."),
    Queue.IO: ("Reading and writing files", "Uploads being read."),
}
_SHOWN = [*OWNED, State.QUEUED, State.WAITING, State.PAUSED]


@dataclass(frozen=True)
class Row:
    """A job in the queue. `mine` is false for other people's projects: such a job holds its place without a name."""

    job: Job
    mine: bool
    may_edit: bool
    place: int = 0


@dataclass
class Lane:
    title: str
    sentence: str
    workers: list[dict[str, Any]]
    running: list[Row] = field(default_factory=list)
    queued: list[Row] = field(default_factory=list)


def queue_of(user: User) -> dict[str, Any]:
    """The whole server's queue as `user` may see it."""
    own = set(projects_of(user))
    editable = {project.pk for project in own if may_edit(user, project)}
    jobs = Job.objects.filter(state__in=_SHOWN).select_related("project", "created_by")
    jobs = jobs.order_by(F("queued_at").asc(nulls_last=True), "id")
    workers = services.workers()
    lanes = {
        key: Lane(title, sentence, [w for w in workers if w["queue"] == key])
        for key, (title, sentence) in _TITLES.items()
    }
    waiting: list[Row] = []
    paused: list[Row] = []
    for job in jobs:
        lane = lanes[Queue(job.queue)]
        row = Row(job, job.project in own, job.project_id in editable, len(lane.queued) + 1)
        if job.state in OWNED:
            lane.running.append(row)
        elif job.state == State.QUEUED:
            lane.queued.append(row)
        elif row.mine:
            (waiting if job.state == State.WAITING else paused).append(row)
    return {
        "lanes": list(lanes.values()),
        "waiting": waiting,
        "paused": paused,
        "workers": workers,
        "nothing": not (waiting or paused or any(lane.running or lane.queued for lane in lanes.values())),
    }
