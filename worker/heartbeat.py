"""Reports every few seconds that this worker process is alive (webapp.jobs.lifecycle.heartbeats)."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading

import redis

from webapp.jobs.lifecycle.heartbeats import worker_left, worker_seen
from webapp.jobs.models import Queue
from worker.host_devices import CPU, devices_of_host, gpus_of_host, memory_of_host
from worker.tasks import worker_name

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0


class Heartbeat:
    """Sends heartbeats for one queue of this process until closed."""

    def __init__(self, queue: str, *, slots: int) -> None:
        self._queue = queue
        self._slots = slots
        self._name = f"{worker_name()}:{queue}"
        self._devices = devices_of_host() if queue == Queue.DEVICE else [CPU]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat of {queue}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                worker_seen(
                    self._name,
                    host=socket.gethostname(),
                    queue=self._queue,
                    slots=self._slots,
                    devices=self._devices,
                    gpus=gpus_of_host() if self._queue == Queue.DEVICE else {},
                    memory=memory_of_host(),
                )
            except redis.RedisError as error:
                log.debug("The broker did not take a heartbeat: %s", error)
            if self._done.wait(BEAT_SECONDS):
                return

    def close(self) -> None:
        self._done.set()
        with contextlib.suppress(redis.RedisError):
            worker_left(self._name)
