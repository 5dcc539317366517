"""The self-test: sends a message through every queue, runs a trainer where jobs compute, and collects the replies.

It is not a job: it belongs to no project, writes no row and no file, and expires after ten minutes. The workers'
part is `worker/selftest.py`.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import redis
from kombu.exceptions import OperationalError as BrokerAway

from webapp.broker import app, redis_client
from webapp.jobs.lifecycle.leases import silent_seconds
from webapp.jobs.models import OWNED, Job, Queue

TASK = "cristae.probe"
PATIENCE_SECONDS = 30
"""A free worker takes a message at once: after so long, there is no free worker."""
SOON_SECONDS = 2
TRAINER_SECONDS = 120
"""Loading PyTorch from a slow disk takes a minute."""
_FORGOTTEN_SECONDS = 600
_WORK = {Queue.DEVICE: "Jobs on devices", Queue.INTERACTIVE: "Maps and predictions", Queue.IO: "Reading files"}


@dataclass(frozen=True)
class Step:
    """The result of one queue. `state` is running, done or failed."""

    name: str
    state: str
    sentence: str
    remedy: str = ""


def selftest_start() -> str:
    """Sends a message to every queue; returns the self-test's ticket. Raises redis.RedisError or BrokerAway."""
    ticket = uuid.uuid4().hex
    with redis_client() as client:
        client.hset(_key(ticket), "asked", client.time()[0])
        client.expire(_key(ticket), _FORGOTTEN_SECONDS)
    for queue in Queue.values:
        app.send_task(TASK, args=[ticket], queue=queue, retry=False, expires=_FORGOTTEN_SECONDS)
    return ticket


def selftest_note(ticket: str, *, queue: str, **facts: Any) -> bool:
    """Stores the reply of a worker of `queue`: `host`, then `code` and `said` of its trainer; False if it has expired.

    Raises redis.RedisError.
    """
    with redis_client() as client:
        if not client.exists(_key(ticket)):
            return False
        before = json.loads(client.hget(_key(ticket), queue) or "{}")
        moment = "ended" if "code" in facts else "taken"
        client.hset(_key(ticket), queue, json.dumps({**before, **facts, moment: client.time()[0]}))
        return True


def selftest_steps(ticket: str) -> list[Step] | None:
    """The progress of the test, queue by queue; None if it has expired. Raises redis.RedisError."""
    with redis_client() as client:
        kept, now = client.hgetall(_key(ticket)), client.time()[0]
    known = {name.decode(): json.loads(value) for name, value in kept.items()}
    if "asked" not in known:
        return None
    return [_step(queue, known.get(queue), now=now, asked=known["asked"]) for queue in Queue]


def _step(queue: Queue, said: dict[str, Any] | None, *, now: int, asked: int) -> Step:
    name = _WORK[queue]
    if said is None:
        return _not_taken(queue, seconds=now - asked)
    took = f"The worker on {said['host']} took the test {_after(said['taken'] - asked)}"
    if queue != Queue.DEVICE:
        return Step(name, "done", f"{took}.")
    spent = said.get("ended", now) - said["taken"]
    if "code" not in said:
        if spent > TRAINER_SECONDS + PATIENCE_SECONDS:
            return Step(name, "failed", f"{took}, and has not been heard from since.", "See the worker's log.")
        return Step(name, "running", f"{took}. Its trainer is running: {spent} s.")
    if said["code"] != 0:
        return Step(name, "failed", f"{took}. Its trainer failed: {said['said']}", "See the worker's log.")
    return Step(name, "done", f"{took}. Its trainer passed {_after(spent)}: {said['said']}")


def _not_taken(queue: Queue, *, seconds: int) -> Step:
    # A worker reads no message while it runs its jobs. With several devices, one that is free has done so by then.
    alive = [job for job in Job.objects.filter(queue=queue, state__in=OWNED)[:5] if silent_seconds(job) is None]
    if alive and seconds > SOON_SECONDS:
        jobs = ", ".join(f"#{job.pk}" for job in alive)
        return Step(_WORK[queue], "done", f"At work on {jobs}, seen just now: worker and trainer are alive.")
    if seconds <= PATIENCE_SECONDS:
        return Step(_WORK[queue], "running", f"Waiting for a worker: {seconds} s.")
    says = f"No worker has taken the test for {seconds} s."
    return Step(_WORK[queue], "failed", says, f"Start one: `python manage.py work --queues {queue}`.")


def _after(seconds: int) -> str:
    return "at once" if seconds < 1 else f"after {seconds} s"


def _key(ticket: str) -> str:
    return f"cristae:selftest:{ticket}"


AWAY = (redis.RedisError, BrokerAway, OSError)
"""Exceptions that mean that the broker does not answer."""
