"""The only task: a hint that a queue has a job. The row is authoritative: the job that runs may be another one."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Task
from django.db import Error, connection

from webapp.broker import app
from webapp.jobs.lifecycle.leases import database_is_away, job_claim
from webapp.jobs.lifecycle.worker_hints import TASK
from webapp.jobs.models import Queue
from worker.host_devices import CPU, Slot, device_slot, devices_of_host
from worker.supervisor import Supervisor

log = logging.getLogger(__name__)

LEAVE = threading.Event()
"""Set when this worker process is to exit: nothing more is claimed; trainers write a checkpoint and exit."""


@app.task(name=TASK, bind=True)
def work(self: Task, job_id: int) -> None:
    """Runs the jobs of the queue from which the hint came."""
    del job_id  # the first job in the queue's order is claimed
    queue = str((self.request.delivery_info or {})["routing_key"])
    try:
        work_off(queue)
    except Error as error:
        if not database_is_away(error):
            raise
        log.warning("The database does not answer; the hint is sent again once it does.")
    finally:
        connection.close()


def work_off(queue: str) -> None:
    """Claims and runs the first job of `queue`, then the next, until there is none, no device, or this worker exits."""
    while not LEAVE.is_set():
        with _slot(queue) as slot:
            job = job_claim(queue, worker=worker_name(), device=slot.device) if slot else None
            if slot is None or job is None:
                return
            Supervisor(job, slot=slot, leave=LEAVE).run()


@contextmanager
def _slot(queue: str) -> Iterator[Slot | None]:
    """A device for queues that train; the shared CPU slot for short jobs and those that compute nothing."""
    if queue == Queue.DEVICE:
        with device_slot(devices_of_host()) as slot:
            yield slot
    else:
        yield Slot(CPU, None)


def worker_name() -> str:
    """The name of this worker process in rows and pages."""
    return f"{socket.gethostname()}:{os.getpid()}"
