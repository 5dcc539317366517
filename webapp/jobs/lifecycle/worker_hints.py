"""Hints to workers that a queue holds something. The row is the truth: a lost hint costs seconds, no more."""

from __future__ import annotations

import logging

import redis
from kombu.exceptions import OperationalError as BrokerAway

from webapp.broker import app, redis_client

log = logging.getLogger(__name__)

TASK = "cristae.work"


def send_hint(job_id: int, *, queue: str) -> None:
    """Wakes a worker of `queue`. Never raises: where the broker is away, the reaper hints again."""
    try:
        app.send_task(
            TASK, args=[job_id], queue=queue, retry=True, retry_policy={"max_retries": 1, "interval_start": 0}
        )
    except (BrokerAway, redis.RedisError, OSError) as error:
        log.warning("The broker did not take the hint about job %d (%s); it is sent again later.", job_id, error)


def hints_waiting(queue: str) -> int:
    """How many hints lie in `queue` unread; a busy worker leaves them there. Raises redis.RedisError."""
    with redis_client() as client:
        return int(client.llen(queue))
