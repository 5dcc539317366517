"""Stores a trainer's events from its file in the database, exactly once and in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Max

from ml_core.job.files import sha256_of
from webapp.datasets.models import Blob
from webapp.jobs.lifecycle.events import AT_ONCE, read_line
from webapp.jobs.lifecycle.leases import locked_attempt
from webapp.jobs.lifecycle.page_hints import hint_pages
from webapp.jobs.models import Artifact, Event, Job
from webapp.jobs.results.tracked_metric import watched_after

log = logging.getLogger(__name__)

_LARGEST_READ = 4 * 2**20


class EventReader:
    """Reads complete lines of a growing `events.jsonl`. Lines count as read once `advance` is called."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._number = 0

    def peek(self, most: int = AT_ONCE) -> list[tuple[int, bytes]]:
        """The next lines with their numbers, from 1; an incomplete last line is left for the next call."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                read = file.read(_LARGEST_READ)
                while read and b"\n" not in read and (more := file.read(_LARGEST_READ)):
                    read += more
        except FileNotFoundError:
            return []
        lines = read.split(b"\n")[:-1][:most]
        return [(number, line + b"\n") for number, line in enumerate(lines, start=self._number + 1)]

    def advance(self, lines: Sequence[tuple[int, bytes]]) -> None:
        self._offset += sum(len(line) for _, line in lines)
        self._number += len(lines)


class Collector:
    """Collects the events of one attempt, on behalf of the attempt that owns the job.

    The two differ when a new attempt collects what an earlier one left.
    """

    def __init__(self, job: Job, folder: Path, *, of_epoch: int | None = None) -> None:
        self._job_id = job.pk
        self._owner_epoch = job.epoch
        self._epoch = job.epoch if of_epoch is None else of_epoch
        self._folder = folder
        self._reader = EventReader(folder / "events.jsonl")
        self.step: int | None = None
        """The last step that was reported."""
        self.checkpoints = 0
        self.fault = ""
        """The last note of level error."""

    def collect(self) -> int:
        """Stores the next events in one transaction and returns the number of lines processed; 0 if there are none.

        Raises Fenced, having written nothing, or a database error, after which the same lines are processed again.
        """
        lines = self._reader.peek()
        if not lines:
            return 0
        events = [read_line(line, job_id=self._job_id, epoch=self._epoch, seq=number) for number, line in lines]
        files = self._store(events)
        with locked_attempt(self._job_id, epoch=self._owner_epoch) as job:
            # Rows exist if the reply to an earlier commit was lost, or another worker got so far. They stay unchanged.
            last = job.events.filter(epoch=self._epoch).aggregate(last=Max("seq"))["last"] or 0
            new = [e for e in events if e.seq is not None and e.seq > last]
            kept = [e for e in new if e.kind != "progress"]
            Event.objects.bulk_create(kept)
            _enter_files(e for e in kept if e.seq in files)
            columns = self._columns(job, new)
            if columns:
                Job.objects.filter(pk=job.pk, epoch=self._owner_epoch).update(**columns)
            if new:
                transaction.on_commit(partial(hint_pages, job.pk))
        self._reader.advance(lines)
        self._remember(events)
        return len(lines)

    def collect_all(self) -> None:
        """Collects everything that is in the file by now."""
        while self.collect():
            pass

    def _store(self, events: Sequence[Event]) -> set[int]:
        """Stores the files of artifact events; returns the line numbers of those whose file matches its announced hash.

        Outside of any transaction, as it may take long; a stored file that no row names does no harm.
        """
        stored = set()
        for event in events:
            if event.kind != "artifact" or event.seq is None or event.data is None:
                continue
            sha256, path = event.data["sha256"], self._folder / event.data["path"]
            if not default_storage.exists(sha256):
                fault = self._look_at(path, sha256)
                if fault:
                    log.error("Job %d: %s", self._job_id, fault)
                    event.data["fault"] = fault
                    continue
                default_storage.put_file(path, sha256)  # type: ignore[attr-defined]
            stored.add(event.seq)
        return stored

    def _look_at(self, path: Path, sha256: str) -> str:
        if not path.resolve().is_relative_to(self._folder.resolve()):
            return f"{path.name} lies outside of the job's folder and was not kept."
        if not path.is_file():
            return f"{path.name} was announced and is not there."
        if sha256_of(path) != sha256:
            return f"{path.name} has changed since it was announced and was not kept."
        return ""

    def _columns(self, job: Job, events: Sequence[Event]) -> dict[str, Any]:
        """The job's columns that the events change."""
        columns: dict[str, Any] = {}
        record = dict(job.record)
        for event in events:
            data = event.data or {}
            if event.kind == "progress":
                columns["progress"] = data
            elif event.kind == "results":
                columns["results"] = data
            elif event.kind == "record":
                record |= data
            elif event.kind == "checkpoint":
                columns["checkpoint_step"] = event.step
            if event.kind == "point" and event.step is not None:
                columns["step"] = event.step
        if self._epoch != self._owner_epoch:
            columns.pop("progress", None)
        watched = watched_after(job, (e for e in events if e.kind == "point"))
        if watched != job.watched:
            columns["watched"] = watched
        return {**columns, "record": record} if record != job.record else columns

    def _remember(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind in ("point", "checkpoint") and event.step is not None:
                self.step = event.step
            if event.kind == "checkpoint":
                self.checkpoints += 1
            if event.kind == "note" and event.data and event.data["level"] == "error":
                self.fault = event.data["text"]


def _enter_files(events: Iterable[Event]) -> None:
    made = []
    for event in events:
        data = event.data or {}
        made.append(
            Artifact(
                job_id=event.job_id,
                event=event,
                kind=str(data["artifact"])[:30],
                name=str(data["name"])[:200] if "name" in data else event.name,
                sha256=data["sha256"],
                size=data["size"],
                media_type=str(data["media_type"])[:100],
                step=event.step,
                epoch=event.epoch,
                facts=data["facts"],
            )
        )
    Blob.objects.bulk_create([Blob(sha256=a.sha256, size=a.size) for a in made], ignore_conflicts=True)
    Artifact.objects.bulk_create(made)
