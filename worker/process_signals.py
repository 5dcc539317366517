"""Shutdown of a worker process: in order on TERM, and also when its parent process has died.

With CRISTAE_LIFELINE=stdin the parent holds the write end of this process's standard input.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

from celery.signals import celeryd_after_setup, worker_ready, worker_shutdown, worker_shutting_down

from worker import tasks
from worker.heartbeat import Heartbeat

log = logging.getLogger(__name__)

LEAVE_SECONDS = 30.0
"""After its parent's death, a worker has so long to queue its jobs again."""

_beats: list[Heartbeat] = []


@celeryd_after_setup.connect
def hold_the_lifeline(**_: Any) -> None:
    if os.environ.get("CRISTAE_LIFELINE") == "stdin":
        threading.Thread(target=_follow_parent, name="lifeline", daemon=True).start()


def _follow_parent() -> None:
    while os.read(0, 1024):
        pass
    log.warning("The parent process of this worker has ended; it returns its jobs to the queue and exits.")
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(LEAVE_SECONDS)
    os._exit(1)


@worker_ready.connect
def announce_start(sender: Any, **_: Any) -> None:
    for queue in sender.controller.app.amqp.queues.consume_from:
        _beats.append(Heartbeat(str(queue), slots=sender.controller.concurrency))


@worker_shutting_down.connect
def leave(**_: Any) -> None:
    """Handles TERM: trainers write a checkpoint, jobs are queued again; Celery waits for that."""
    tasks.LEAVE.set()


@worker_shutdown.connect
def announce_end(**_: Any) -> None:
    for beat in _beats:
        beat.close()
