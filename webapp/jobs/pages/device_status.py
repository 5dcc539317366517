"""What each device is doing: free, running a job, or silent; with the job, as far as the user may see it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from webapp.jobs.estimates.duration import seconds_left
from webapp.jobs.lifecycle.heartbeats import SILENT_SECONDS
from webapp.jobs.models import Job, Queue, device_name

_WORK = {Queue.INTERACTIVE: "maps and predictions", Queue.IO: "reading files"}


@dataclass(frozen=True)
class Seen:
    """A job as one user sees it. `mine` is false for other people's projects: shown without name and link."""

    job: Job
    mine: bool

    @property
    def left(self) -> float | None:
        """Seconds until it ends, None while unknown. Shown for jobs of other projects too."""
        return seconds_left(self.job)


@dataclass(frozen=True)
class Device:
    """`key` names it in URLs. `used` and `total` are bytes of memory, None if the driver does not report them."""

    key: str
    name: str
    running: Seen | None
    silent_since: datetime.datetime | None = None
    used: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class SilentHelper:
    host: str
    work: str
    since: datetime.datetime


def devices_of(workers: Iterable[Mapping[str, Any]], running: Iterable[Seen]) -> list[Device]:
    """Every training device of workers with a recent heartbeat, and any other that a running job names."""
    busy = {_key(s.job.worker.rpartition(":")[0], s.job.device): s for s in running if s.job.queue == Queue.DEVICE}
    found = []
    for worker in workers:
        for device in worker["devices"] if worker["queue"] == Queue.DEVICE else ():
            key, gpu = _key(worker["host"], device), worker.get("gpus", {}).get(device, {})
            name = device_name(device, host=worker["host"])
            found.append(
                Device(
                    key=key,
                    name=f"{name}, {gpu['name']}" if gpu else name,
                    running=busy.pop(key, None),
                    silent_since=_silent_since(worker),
                    used=gpu.get("used"),
                    total=gpu.get("total"),
                )
            )
    return found + [Device(key, seen.job.device_name or "A device", seen) for key, seen in busy.items()]


def silent_helpers(workers: Iterable[Mapping[str, Any]]) -> list[SilentHelper]:
    """The silent workers of the queues for short jobs, which have no device of their own."""
    return [
        SilentHelper(worker["host"], _WORK[worker["queue"]], since)
        for worker in workers
        if worker["queue"] in _WORK and (since := _silent_since(worker))
    ]


def _key(host: str, device: str) -> str:
    return f"{host} {device}"


def _silent_since(worker: Mapping[str, Any]) -> datetime.datetime | None:
    silent = worker["seen_seconds"]
    return timezone.now() - datetime.timedelta(seconds=silent) if silent > SILENT_SECONDS else None
