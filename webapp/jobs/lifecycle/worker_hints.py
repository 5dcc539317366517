"""Hints to workers that a queue has a job. The row is authoritative: a lost hint only delays the job by seconds."""

from __future__ import annotations

import logging

import redis
from kombu.exceptions import OperationalError as BrokerAway

from webapp.broker import app, redis_client

log = logging.getLogger(__name__)

TASK = "cristae.work"


def send_hint(job_id: int, *, queue: str) -> None:
    """Wakes a worker of `queue`. Never raises: if the broker is away, the reaper sends the hint again."""
    try:
        app.send_task(
            TASK, args=[job_id], queue=queue, retry=True, retry_policy={"max_retries": 1, "interval_start": 0}
        )
    except (BrokerAway, redis.RedisError, OSError) as error:
        log.warning("The broker did not take the hint about job %d (%s); it is sent again later.", job_id, error)


def hints_waiting(queue: str) -> int:
    """The number of unread hints in `queue`; a busy worker does not consume them. Raises redis.RedisError."""
    with redis_client() as client:
        return int(client.llen(queue))
