"""The process that runs a job: started by the fork server, as a fresh interpreter, or by a command from the settings.
It is controlled through its standard input, and its process group is signalled as a whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from django.conf import settings

from ml_core.forkserver import fork
from webapp.local.servers import private_folder, socket_folder
from worker.host_devices import Slot

log = logging.getLogger(__name__)

_SECRETS = frozenset({"DATABASE_URL", "REDIS_URL", "CRISTAE_SECRET_KEY"})


class Process(Protocol):
    """The interface of a trainer's process, however it was started; `subprocess.Popen` implements it."""

    pid: int

    def poll(self) -> int | None: ...


class Trainer:
    """A running trainer. Its process id is its process group's."""

    def __init__(self, process: Process, *, control: int) -> None:
        self._process = process
        self._control: int | None = control
        os.set_blocking(control, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, minus the signal's number for a killed process; None while it runs."""
        return self._process.poll()

    def feed(self, seconds: float) -> None:
        """Sends the trainer its lease: `seconds` from now."""
        if seconds > 0:
            self._write(f"lease {seconds:.3f}\n")

    def stop(self) -> None:
        """Asks the trainer to write a checkpoint and exit."""
        self._write("stop\n")

    def _write(self, line: str) -> None:
        # That a trainer has exited, or does not read, is detected elsewhere.
        if self._control is not None:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._control, line.encode())

    def signal_group(self, number: signal.Signals) -> None:
        """Sends a signal to the trainer and all processes that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def close(self) -> None:
        """Kills what is left of its process group, and closes the pipe."""
        self.signal_group(signal.SIGKILL)
        if self._control is not None:
            os.close(self._control)
            self._control = None


def forkserver_socket() -> Path:
    """The Unix socket of this host's fork server."""
    return socket_folder(private_folder(Path(settings.RUN) / "work")) / "fork.sock"


def start(folder: Path, *, forkable: bool, slot: Slot, lease: float) -> Trainer:
    """Starts a trainer on the attempt in `folder`. Raises OSError if the process cannot be created."""
    arguments = ["run", str(folder / "spec.json"), "--inputs", str(folder / "inputs.json")]
    arguments += ["--workdir", str(folder), "--supervised", f"{lease:.3f}"]
    return launch(arguments, said=folder / "log.txt", forkable=forkable, slot=slot)


def launch(arguments: Sequence[str], *, said: Path, forkable: bool, slot: Slot) -> Trainer:
    """Starts `python -m ml_core` with these arguments on a slot's device; its output is appended to the file `said`.

    Raises OSError if the process cannot be created.
    """
    environment = _environment(slot)
    theirs, ours = os.pipe()
    try:
        with open(said, "ab") as log_file:
            streams = [theirs, log_file.fileno(), log_file.fileno()]
            process: Process | None = None
            if settings.TRAINER == "forkserver" and forkable:
                process = _fork(arguments, environment, streams)
            if process is None:
                process = subprocess.Popen(
                    [*_program(), *arguments],
                    stdin=theirs,
                    stdout=log_file,
                    stderr=log_file,
                    cwd=settings.ROOT,
                    env=environment,
                    start_new_session=True,
                )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Trainer(process, control=ours)


def _program() -> Sequence[str]:
    if settings.TRAINER in ("forkserver", "process"):
        return [sys.executable, "-m", "ml_core"]
    return shlex.split(settings.TRAINER)


def _fork(arguments: Sequence[str], environment: dict[str, str], streams: Sequence[int]) -> Process | None:
    try:
        return fork(forkserver_socket(), arguments, env=environment, cwd=settings.ROOT, streams=streams)
    except (OSError, ValueError) as error:
        log.info("No fork server (%s): the trainer loads everything by itself.", error)
        return None


def _environment(slot: Slot) -> dict[str, str]:
    """A trainer does not use the server, so it gets none of its secrets."""
    kept = {k: v for k, v in os.environ.items() if k.removesuffix("_FILE") not in _SECRETS}
    kept |= {"CRISTAE_DEVICE": slot.device, "PYTHONUNBUFFERED": "1"}
    kept.pop("CRISTAE_DEVICE_LOCK", None)
    if slot.trainer_lock is not None:
        kept["CRISTAE_DEVICE_LOCK"] = str(slot.trainer_lock)
    return kept
