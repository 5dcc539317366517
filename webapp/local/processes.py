"""The child processes of `manage.py up`: started behind a lifeline, restarted when they die, stopped in order."""

from __future__ import annotations

import os
import re
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from webapp.local.lifeline import GRACE_SECONDS, guarded

LONGEST_LOG = 20 * 2**20
_ROUTINE = re.compile(r"^([\d-]+ [\d:,]+ (INFO|DEBUG) |worker: (Warm|Cold) shutdown)")
"""Routine lines, in the settings' log format or Celery's at each stop, stay in the file; all others are also printed on
the terminal."""


class Part(ABC):
    """A process that runs behind a lifeline: a service here, an engine in `webapp.local.servers`.

    Its output goes to the file `log`, so that it never blocks on a terminal.
    """

    name: str
    log: Path
    stop_signal = "TERM"
    process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None: ...

    def launch(self, command: list[str], *, cwd: Path | None = None, grace: float = GRACE_SECONDS) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                guarded(command, stop_signal=self.stop_signal, grace=grace),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only `up`, which stops the others in order
            )

    def stop(self) -> None:
        """Asks the process to exit and waits; the lifeline kills it after the grace time."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()

    def hurry(self) -> None:
        """Kills the process at once. Data that an engine has committed is safe; its next start takes longer."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()


class RestartPause:
    """Seconds between a crash and the restart: doubled at each crash that follows soon after a start."""

    def __init__(self, *, first: float, longest: float, settled: float) -> None:
        self._first, self._longest, self._settled = first, longest, settled
        self._next = first

    def after(self, lifetime: float) -> float:
        """The pause after a process has run for `lifetime` seconds."""
        if lifetime > self._settled:
            self._next = self._first
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause


class Service(Part):
    """One of Cristae's own commands: web server, worker or reaper."""

    def __init__(self, name: str, command: list[str], *, folder: Path, cwd: Path, grace: float) -> None:
        self.name = name
        self.command = command
        self.cwd = cwd
        self.grace = grace
        self.log = folder / f"{name}.txt"
        self._read = 0

    def start(self) -> None:
        if self._read == 0 and self.log.exists():
            self._read = self.log.stat().st_size  # skips the output of an earlier run
        self.launch(self.command, cwd=self.cwd, grace=self.grace)

    def new_lines(self) -> list[str]:
        """Lines that the service has written since the last call, complete ones only, without routine lines."""
        if not self.log.exists():
            return []
        with open(self.log, "rb") as log:
            log.seek(self._read)
            said = log.read(2**20)
        whole = said[: said.rfind(b"\n") + 1]
        self._read += len(whole)
        if self._read > LONGEST_LOG:
            self._turn_over()
        lines = whole.decode(errors="replace").splitlines()
        return [line for line in lines if line.strip() and not _ROUTINE.match(line)]

    def _turn_over(self) -> None:
        """Copies the end of a long log to a second file and empties the log, to which its writer keeps appending."""
        with open(self.log, "rb") as log:
            log.seek(-(2**20), os.SEEK_END)
            self.log.with_suffix(".old.txt").write_bytes(log.read())
        os.truncate(self.log, 0)
        self._read = 0


class Watch:
    """Restarts a process that has died, with a pause that grows while it keeps dying."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._started = time.monotonic()
        self._pause = RestartPause(first=1.0, longest=30.0, settled=60.0)
        self._next: float | None = None

    def check(self) -> str | None:
        """Restarts the process if due; returns a sentence if something happened. To be called several times
        a second."""
        now = time.monotonic()
        if self._next is not None:
            if now < self._next:
                return None
            self._next, self._started = None, now
            try:
                self.part.start()
            except RuntimeError as error:
                return self._died(now, str(error))
            return f"{self.part.name} was started again."
        process = self.part.process
        if process is None or process.poll() is None:
            return None
        return self._died(now, f"{self.part.name} ended by itself ({_ending(process.returncode)}).")

    def _died(self, now: float, sentence: str) -> str:
        pause = self._pause.after(now - self._started)
        self._next = now + pause
        return f"{sentence} Starting it again in {pause:.0f} s."


def _ending(code: int) -> str:
    return f"signal {-code if code < 0 else code - 128}" if code < 0 or code > 128 else f"exit code {code}"
