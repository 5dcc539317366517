"""Parses events from a trainer's file into rows, and serialises rows for a page."""

from __future__ import annotations

import datetime
import json
import math
import re
from typing import Any
from urllib.parse import quote

from django.utils import timezone

from ml_core.specs.cam import with_limit
from webapp.jobs.models import Artifact, Event, Job

AT_ONCE = 2000
"""The most events in one message and in one transaction."""

_LARGEST = 2**63 - 1
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_SAID_BY_A_TRAINER = frozenset({"point", "artifact", "note", "progress", "results", "record", "checkpoint"})


def read_line(line: bytes, *, job_id: int, epoch: int, seq: int) -> Event:
    """Parses a line of `events.jsonl` into a row. A line that breaks the contract becomes a warning that describes it.

    `seq` is the line's number as counted by the reader: the trainer's own number is not trusted.
    """
    try:
        said = json.loads(line, parse_constant=lambda _: None)
        event = Event(job_id=job_id, epoch=epoch, seq=seq, kind=said["kind"], time=_time(said.get("time")))
        if event.kind not in _SAID_BY_A_TRAINER:
            raise ValueError(event.kind)
        _fill(event, _storable(said))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        text = f"Line {seq:,} of the trainer's events could not be read and was left out."
        data = {"text": text, "level": "warning"}
        return Event(job_id=job_id, epoch=epoch, seq=seq, kind="note", time=timezone.now(), data=data)
    return event


def _fill(event: Event, said: dict[str, Any]) -> None:
    rest = {key: value for key, value in said.items() if key not in ("seq", "time", "kind")}
    if event.kind in ("point", "artifact", "checkpoint"):
        event.step = _whole(rest.pop("step", None))
    if event.kind == "point":
        event.name = str(rest.pop("name"))[:100]
        for key in ("value", "low", "high"):
            number = rest.pop(key, None)
            setattr(event, key, None if number is None else float(number))
        event.data = rest or None
    elif event.kind in ("results", "record"):
        event.data = dict(rest["data"])
    else:
        if event.kind == "artifact":
            event.name = str(rest["name"])[:100]
            rest = {"facts": {}, "media_type": "application/octet-stream", **rest, "size": int(rest["size"])}
            rest |= {"artifact": str(rest["artifact"]), "path": str(rest["path"])}
            if not _HASH.match(rest["sha256"]) or not isinstance(rest["facts"], dict):
                raise ValueError(rest["sha256"])
        elif event.kind == "note":
            rest = {"text": str(rest["text"]), "level": str(rest.get("level", "info"))}
        event.data = rest


def _whole(value: Any) -> int | None:
    if value is None:
        return None
    number = int(value)
    if abs(number) > _LARGEST:
        raise OverflowError(number)
    return number


def _time(value: Any) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(float(value), tz=datetime.UTC) if value is not None else timezone.now()


def _storable(value: Any) -> Any:
    """`value` without what PostgreSQL or JSON cannot hold: NUL characters, lone surrogates, infinite numbers."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return value


def events_after(job: Job, cursor: int, limit: int = AT_ONCE) -> list[dict[str, Any]]:
    """The job's events with an id above `cursor`, in id order, at most `limit`, serialised for a page.

    Per job, id order is commit order (every writer locks the job's row): a client that keeps the last id misses none.
    """
    found = list(job.events.filter(pk__gt=cursor).order_by("pk")[:limit])
    shown = [event.pk for event in found if event.kind == "artifact"]
    artifacts = {a.event_id: a for a in Artifact.objects.filter(event__in=shown)} if shown else {}
    return [_message(event, artifacts.get(event.pk)) for event in found]


def _message(event: Event, artifact: Artifact | None) -> dict[str, Any]:
    data = event.data
    if event.kind == "artifact" and data and data.get("artifact") in ("cam", "cam_sheet"):
        data = {**data, "facts": with_limit(data.get("facts", {}))}
    if artifact is not None:
        data = {**(data or {}), "url": artifact_url(artifact)}
    return {
        "id": event.pk,
        "epoch": event.epoch,
        "kind": event.kind,
        "name": event.name,
        "step": event.step,
        "value": event.value,
        "low": event.low,
        "high": event.high,
        "time": event.time.isoformat(),
        "data": data,
    }


def artifact_url(artifact: Artifact) -> str:
    """The URL of an artifact on this server; it ends in the artifact's name, for saving the file under it."""
    return f"/artifacts/{artifact.pk}/{quote(artifact.name.replace('/', '_'), safe='') or artifact.kind}"
