"""A worker's part of the doctor's self-test: confirms that the message arrived, and starts a trainer as a job would."""

from __future__ import annotations

import logging
import socket
import tempfile
import time
from pathlib import Path

import redis
from celery import Task
from django.db import connection

from webapp.broker import app
from webapp.doctor import selftest
from webapp.jobs.models import Queue
from worker.host_devices import Slot, device_slot, devices_of_host
from worker.tasks import LEAVE
from worker.trainer_process import launch

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
LONGEST = 600
"""Characters of a trainer's output that are sent back."""


@app.task(name=selftest.TASK, bind=True)
def probe(self: Task, ticket: str) -> None:
    """Responds for the queue from which the message came."""
    queue = str((self.request.delivery_info or {})["routing_key"])
    try:
        answer(ticket, queue=queue)
    except redis.RedisError as error:
        log.warning("The broker did not take the result of a self-test: %s", error)
    finally:
        connection.close()


def answer(ticket: str, *, queue: str) -> None:
    """Confirms that this worker is alive and, on queues that compute, reports a trainer's result on a free device.

    Raises RedisError.
    """
    if not selftest.selftest_note(ticket, queue=queue, host=socket.gethostname()) or queue != Queue.DEVICE:
        return
    with device_slot(devices_of_host()) as slot:
        code, said = _try(slot) if slot else (1, "all devices of this host are taken by another worker of it.")
    selftest.selftest_note(ticket, queue=queue, code=code, said=said)


def _try(slot: Slot) -> tuple[int, str]:
    """Runs a trainer's check of its machine (`python -m ml_core doctor`): its exit code, and its verdict."""
    with tempfile.TemporaryDirectory(prefix="cristae-selftest-") as folder:
        said = Path(folder) / "log.txt"
        try:
            trainer = launch(["doctor", "--folder", folder], said=said, forkable=True, slot=slot)
        except OSError as error:
            return 1, f"it could not be started ({error})."
        deadline = time.monotonic() + selftest.TRAINER_SECONDS
        try:
            while (code := trainer.poll()) is None and time.monotonic() < deadline and not LEAVE.wait(LOOK_SECONDS):
                pass
        finally:
            trainer.close()
        if code is None:
            return 1, f"it gave no answer within {selftest.TRAINER_SECONDS} s."
        return code, _verdict(said.read_text(errors="replace"), passed=code == 0)


def _verdict(log_text: str, *, passed: bool) -> str:
    """From its output: the errors, or else what it computed and on which device."""
    lines = [line.partition("  ") for line in log_text.splitlines()]
    wanted = [text.strip() for level, _, text in lines if (level == "error") != passed]
    chosen = [text for text in wanted if "training step" in text] if passed else wanted
    return " ".join(chosen or [log_text.strip().rpartition("\n")[2]])[:LONGEST]
