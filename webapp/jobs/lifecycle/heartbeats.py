"""Heartbeats of workers and of the reaper, kept in Redis: each process reports every few seconds and expires after a
long silence."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import redis

from webapp.broker import redis_client

log = logging.getLogger(__name__)

KEY = "cristae:workers"
REAPER_KEY = "cristae:reaper"
SILENT_SECONDS = 30
"""A worker reports every five seconds: from this age on its silence is a warning."""
FORGOTTEN_SECONDS = 600
"""Silent workers stay listed for so long, so that a page can show how long they have been silent."""


def worker_seen(
    name: str,
    *,
    host: str,
    queue: str,
    slots: int,
    devices: list[str],
    gpus: Mapping[str, Any],
    memory: Mapping[str, int],
) -> None:
    """Records the heartbeat of worker process `name`. Raises redis.RedisError.

    `gpus`: device -> {"name", "driver", "used", "total"} (bytes), for devices whose driver reports these.
    `memory`: {"free", "total"} of the host, in bytes; empty if unknown.
    """
    with redis_client() as client:
        said = {"host": host, "queue": queue, "slots": slots, "devices": devices, "gpus": gpus, "memory": memory}
        said["at"] = client.time()[0]
        client.hset(KEY, name, json.dumps(said))
        client.expire(KEY, FORGOTTEN_SECONDS)


def worker_left(name: str) -> None:
    """Removes a worker process that exits normally. Raises redis.RedisError."""
    with redis_client() as client:
        client.hdel(KEY, name)


def reaper_seen() -> None:
    """Records that a reaper has just completed a round. Raises redis.RedisError."""
    with redis_client() as client:
        client.set(REAPER_KEY, client.time()[0], ex=FORGOTTEN_SECONDS)


def reaper_silence() -> int | None:
    """Seconds since a reaper's last round; None if the record has expired. Raises redis.RedisError."""
    with redis_client() as client:
        at = client.get(REAPER_KEY)
        return None if at is None else max(0, client.time()[0] - int(at))


def workers() -> list[dict[str, Any]]:
    """The workers with a recent heartbeat: host, queue, slots, devices, gpus, memory, seen_seconds.

    Empty if the broker is away. Of several processes with the same host and queue (a crashed one and its successor) the
    one with the newest heartbeat counts.
    """
    try:
        with redis_client() as client:
            now = client.time()[0]
            rows = {name: json.loads(said) for name, said in client.hgetall(KEY).items()}
            gone = [name for name, row in rows.items() if now - row["at"] > FORGOTTEN_SECONDS]
            if gone:
                client.hdel(KEY, *gone)
    except redis.RedisError as error:
        log.warning("The broker did not list the workers: %s", error)
        return []
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows.values(), key=lambda row: row["at"]):
        seen = max(0, now - row.pop("at"))
        if seen <= FORGOTTEN_SECONDS:
            newest[row["queue"], row["host"]] = {**row, "seen_seconds": seen}
    return [newest[key] for key in sorted(newest)]


def slots_of(queue: str, workers: Iterable[Mapping[str, Any]]) -> int:
    """How many jobs of `queue` run at once, summed over the workers that are not silent."""
    return sum(w["slots"] for w in workers if w["queue"] == queue and w["seen_seconds"] <= SILENT_SECONDS)
