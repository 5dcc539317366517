"""What earlier attempts at a job left: events not yet collected, checkpoints to resume from, a running trainer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from django.conf import settings

from ml_core.job import checkpoints

log = logging.getLogger(__name__)

_ATTEMPT = re.compile(r"epoch-(\d+)\Z")
_TRAINER = "trainer.json"
_COLLECTED = "collected"
_TICK = 0.05


def attempt_folder(job_id: int, epoch: int) -> Path:
    """The folder of attempt `epoch` at the job; nothing else writes there."""
    return Path(settings.JOBS) / f"job-{job_id}" / f"epoch-{epoch}"


def earlier_attempts(job_id: int, *, below: int) -> list[tuple[int, Path]]:
    """The attempts before `below` whose folder exists on this host, oldest first."""
    parent = attempt_folder(job_id, 0).parent
    found = []
    with contextlib.suppress(FileNotFoundError):
        found = [(int(m[1]), path) for path in parent.iterdir() if (m := _ATTEMPT.match(path.name))]
    return sorted((epoch, path) for epoch, path in found if epoch < below)


def uncollected_attempts(job_id: int, *, below: int) -> list[tuple[int, Path]]:
    """The earlier attempts that are not marked as fully collected."""
    return [(epoch, path) for epoch, path in earlier_attempts(job_id, below=below) if not (path / _COLLECTED).exists()]


def note_collected(folder: Path) -> None:
    """Marks `folder` as final: nothing writes there any more, and all of its events are in the database."""
    (folder / _COLLECTED).touch()


def note_trainer(folder: Path, *, pid: int) -> None:
    """Stores the id of the trainer's process in `folder`, so that a later attempt can kill it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        said = {"host": socket.gethostname(), "pid": pid, "began": psutil.Process(pid).create_time()}
        (folder / _TRAINER).write_text(json.dumps(said))


def wait_for_end(folder: Path, *, patience: float, check: Callable[[], None]) -> bool:
    """Waits until no trainer uses `folder`; kills one that should have exited by itself. False if that fails.

    A trainer exits at once without a supervisor, and without a lease when that ends: only a stopped or hanging one
    still runs after `patience` seconds. `check` is called repeatedly meanwhile and may raise.
    """
    if not (folder / "lock").exists():
        return True
    deadline = time.monotonic() + patience
    killed = False
    with open(folder / "lock", "ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                check()
            if time.monotonic() > deadline:
                if killed:
                    log.error("A trainer still uses %s and cannot be killed from this host.", folder)
                    return False
                killed = True
                deadline = time.monotonic() + 5.0
                _kill_trainer(folder)
            time.sleep(_TICK)


def _kill_trainer(folder: Path) -> None:
    """Kills the process group stored by `note_trainer`, if it is still the same process on this host."""
    try:
        said = json.loads((folder / _TRAINER).read_text())
        same = said["host"] == socket.gethostname() and psutil.Process(said["pid"]).create_time() == said["began"]
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        return
    if same:
        log.warning("Ending a trainer that an earlier attempt left in %s.", folder)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(said["pid"], signal.SIGKILL)


def newest_checkpoint(job_id: int, *, below: int) -> Path | None:
    """The newest intact checkpoint of the newest attempt before `below` that has one. Reads the whole file."""
    for _, folder in reversed(earlier_attempts(job_id, below=below)):
        if found := checkpoints.newest(folder / "checkpoints"):
            return found
    return None


def forget_checkpoints(job_id: int, *, below: int) -> None:
    """Deletes the checkpoints of attempts before `below`: a later attempt has newer ones."""
    for _, folder in earlier_attempts(job_id, below=below):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
