"""The template context of the queue page: devices, queued jobs with start times, waiting and paused jobs."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.utils import timezone

from webapp.jobs.estimates.duration import FORETOLD, starts
from webapp.jobs.lifecycle import heartbeats
from webapp.jobs.lifecycle.heartbeats import slots_of
from webapp.jobs.lifecycle.queue_order import queue_order
from webapp.jobs.models import OWNED, Job, Queue, State
from webapp.jobs.pages.device_status import Device, Seen, SilentHelper, devices_of, silent_helpers
from webapp.projects.access import is_administrator, projects_edited_by, projects_of
from webapp.projects.models import User

_TITLES = {
    Queue.DEVICE: ("Training", "In order of arrival, unless somebody moves a job. One at a time per device."),
    Queue.INTERACTIVE: ("Maps and predictions", "Short jobs on the CPU. They never wait for training."),
    Queue.IO: ("Reading files", "Uploads being read. They never wait for training."),
}
_SHOWN = [*OWNED, State.QUEUED, State.WAITING, State.PAUSED]


@dataclass(frozen=True)
class Filters:
    """Filters from the URL: `device` is a device's key or a queue's name, `whose` is "mine"; empty means all."""

    device: str = ""
    whose: str = ""

    @property
    def query(self) -> str:
        """The query string, with its question mark; empty if nothing is filtered."""
        asked = {name: value for name, value in (("device", self.device), ("whose", self.whose)) if value}
        return f"?{urlencode(asked)}" if asked else ""


@dataclass(frozen=True)
class Row(Seen):
    """A queued job, with its position in the whole queue, including jobs that are filtered out.

    `start`: estimated start time; if unknown, `follows` is the job before it, if the user may see that.
    """

    may_edit: bool
    may_move: bool = False
    place: int = 0
    last: bool = False
    start: datetime.datetime | None = None
    follows: Job | None = None


@dataclass
class QueueSection:
    """One queue: its devices if it has any, jobs that run elsewhere than on those, and the queued jobs."""

    title: str
    sentence: str
    devices: list[Device] = field(default_factory=list)
    running: list[Seen] = field(default_factory=list)
    queued: list[Row] = field(default_factory=list)


class Viewpoint:
    """The queue as one user may see and change it."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._own = set(projects_of(user).values_list("pk", flat=True))
        self._edited = set(projects_edited_by(user).values_list("pk", flat=True))
        self._administers = is_administrator(user)

    def seen(self, jobs: Iterable[Job]) -> list[Seen]:
        return [Seen(job, job.project_id in self._own) for job in jobs]

    def row(self, job: Job, **more: Any) -> Row:
        may_edit = job.project_id in self._edited
        return Row(job, job.project_id in self._own, may_edit, may_edit or self._administers, **more)

    def keeps(self, job: Job, filters: Filters) -> bool:
        return filters.whose != "mine" or job.created_by_id == self._user.pk


def queue_of(user: User, filters: Filters) -> dict[str, Any]:
    """The whole server's queue as `user` may see it, filtered by `filters`."""
    view, workers = Viewpoint(user), heartbeats.workers()
    jobs = list(_jobs())
    devices = devices_of(workers, view.seen([job for job in jobs if job.state in OWNED]))
    choices = [*((d.key, d.name) for d in devices), *((q.value, _TITLES[q][0]) for q in (Queue.INTERACTIVE, Queue.IO))]
    if filters.device not in dict(choices):
        filters = Filters(whose=filters.whose)
    shown = _queues(filters)
    lanes = [_lane(queue, jobs, view=view, filters=filters, devices=devices, workers=workers) for queue in shown]
    lanes = [lane for lane in lanes if lane.devices or lane.running or lane.queued]
    kept = [job for job in jobs if job.queue in shown and view.keeps(job, filters)]
    waiting, paused = (
        [row for job in kept if job.state == state and (row := view.row(job)).mine]
        for state in (State.WAITING, State.PAUSED)
    )
    return {
        "lanes": lanes,
        "waiting": waiting,
        "paused": paused,
        "workers": workers,
        "silent_helpers": silent_helpers(workers),
        "filters": filters,
        "choices": choices,
        "nothing": not jobs,
        "nothing_matches": bool(jobs and filters.query) and not (lanes or waiting or paused),
    }


def devices_seen_by(user: User) -> tuple[list[Device], list[Seen], list[SilentHelper]]:
    """For the home page: what each device does, the short jobs that run beside, and the silent workers."""
    workers = heartbeats.workers()
    running = Viewpoint(user).seen(list(_jobs().filter(state__in=OWNED)))
    small = [seen for seen in running if seen.job.queue != Queue.DEVICE]
    return devices_of(workers, running), small, silent_helpers(workers)


def _jobs() -> QuerySet[Job]:
    return (
        Job.objects.filter(state__in=_SHOWN)
        .select_related("project", "created_by")
        .order_by(*queue_order())
        .defer("log_tail")
    )


def _queues(filters: Filters) -> list[Queue]:
    if filters.device in (Queue.INTERACTIVE, Queue.IO):
        return [Queue(filters.device)]
    return [Queue.DEVICE] if filters.device else list(_TITLES)


def _lane(
    queue: Queue,
    jobs: Sequence[Job],
    *,
    view: Viewpoint,
    filters: Filters,
    devices: Sequence[Device],
    workers: Sequence[Mapping[str, Any]],
) -> QueueSection:
    """One queue's part of the page. Positions, start times and the last job refer to the unfiltered queue."""
    running = [job for job in jobs if job.queue == queue and job.state in OWNED]
    line = [job for job in jobs if job.queue == queue and job.state == State.QUEUED]
    lane = QueueSection(*_TITLES[queue])
    foretold: dict[int, datetime.datetime] = {}
    if queue == Queue.DEVICE:
        foretold = starts(line[:FORETOLD], running, slots=slots_of(queue, workers), now=timezone.now())
        lane.devices = [d for d in devices if _shows(d, view=view, filters=filters)]
    else:
        lane.running = view.seen([job for job in running if view.keeps(job, filters)])
    before = [running[-1] if len(running) == 1 else None, *line]
    lane.queued = [
        view.row(
            job,
            place=place,
            last=place == len(line),
            start=foretold.get(job.pk),
            follows=_named(before[place - 1], view),
        )
        for place, job in enumerate(line, start=1)
        if view.keeps(job, filters)
    ]
    return lane


def _named(job: Job | None, view: Viewpoint) -> Job | None:
    return job if job and view.row(job).mine else None


def _shows(device: Device, *, view: Viewpoint, filters: Filters) -> bool:
    if filters.device:
        return device.key == filters.device
    return filters.whose != "mine" or bool(device.running and view.keeps(device.running.job, filters))
