"""The output of setup: a line per stage. The output of the programs behind it goes to a log; a failure shows its end.

Uses the standard library alone, as `setup.py` beside it does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAST_LINES = 8
ROUTINE = "Ignoring "
"""The start of pip's lines about packages for other systems."""
LOOK_SECONDS = 0.2
SIGN_SECONDS = 30.0
"""Interval of progress lines without a terminal, which would show a running count."""
LEAVE_SECONDS = 10.0
REASONS = {
    "No space left on device": "The disk is full. Free some space, then run this again.",
    "DO NOT MATCH THE HASHES": "What came is not what the list of requirements names. Run this again; if it stays, the "
    "registry or a proxy alters packages.",
    "No matching distribution found": "The registry was not reached, or does not have it: look at the network "
    "(HTTPS_PROXY), or name a mirror (PIP_INDEX_URL), then run this again.",
    "ENOTFOUND": "npm reached no registry: look at the network (HTTPS_PROXY), or name a mirror (npm_config_registry), "
    "then run this again.",
    "ECONNREFUSED": "npm reached no registry: look at the network (HTTPS_PROXY), or name a mirror "
    "(npm_config_registry), then run this again.",
    "Permission denied": "A file is not yours to write: run this as the one whose folder it is.",
}
"""A text in the log -> its remedy; the first match is used."""


class Refusal(Exception):
    """Setup cannot continue; the text gives the reason and the remedy."""


class Stages:
    """One setup at a time in a folder: its stages on the terminal, the output of their programs in `log`."""

    def __init__(self, log: Path) -> None:
        self.path = log
        self._log = open(log, "a+b")  # noqa: SIM115 - kept open, with its lock, until the process ends
        self._began = False

    def wait_turn(self) -> None:
        """Waits while another setup works in the same folder."""
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another setup works in this folder; this one goes on when it has ended ...", flush=True)
            fcntl.flock(self._log, fcntl.LOCK_EX)

    def run(
        self,
        title: str,
        command: Sequence[str | Path],
        *,
        failed: str,
        so_far: Callable[[str], str] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        """Runs one stage to its end. Raises Refusal with the sentence `failed`, or with a more specific reason.

        `so_far` summarises the command's output in a few words, to show progress while it runs.
        """
        if not self._began:
            self._began = True
            self._log.truncate(0)
            print(f"Setting up Cristae in {ROOT}; all that is said is in {self.path}", flush=True)
        start = self._log.seek(0, os.SEEK_END)
        with _line(title) as line:
            # In a session of its own, so that one signal reaches all that it starts, and Ctrl-C does not.
            process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                start_new_session=True,
            )  # fmt: skip
            try:
                self._follow(process, line, lambda: so_far(self._said(start)) if so_far else "")
            finally:
                _end(process)
            if process.returncode:
                raise Refusal(self._why(start, failed))

    def _follow(self, process: subprocess.Popen[bytes], line: _Line, so_far: Callable[[], str]) -> None:
        while process.poll() is None:
            try:
                process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                line.alive(so_far)

    def _said(self, start: int) -> str:
        return self.path.read_bytes()[start:].decode(errors="replace")

    def _why(self, start: int, failed: str) -> str:
        words = self._said(start)
        remedy = next((sentence for found, sentence in REASONS.items() if found in words), "The reason stands above.")
        lines = [line for line in words.splitlines() if line.strip() and not line.startswith(ROUTINE)]
        shown = "\n".join(f"  | {line[:200]}" for line in lines[-LAST_LINES:])
        return f"{shown}\n\n{failed} {remedy}\nAll that was said is in {self.path}"


class _Line:
    """The line of one stage: rewritten in place on a terminal, else printed at intervals."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._began = self._told = time.monotonic()
        self._live = sys.stdout.isatty()
        print(f"  {title} ...", end="" if self._live else "\n", flush=True)

    def alive(self, so_far: Callable[[], str]) -> None:
        now = time.monotonic()
        if now - self._told < (1.0 if self._live else SIGN_SECONDS):
            return
        self._told = now
        words = ", ".join(filter(None, [f"{now - self._began:.0f} s", so_far()]))
        if self._live:
            # Cut to the terminal's width: only the last row of a wrapped line could be rewritten.
            room = shutil.get_terminal_size().columns - 1
            print("\r\x1b[K" + f"  {self.title} ... {words}"[:room], end="", flush=True)
        else:
            print(f"    {words}", flush=True)

    def end(self, word: str) -> None:
        took = f"{word}, {time.monotonic() - self._began:.0f} s"
        print(f"\r\x1b[K  {self.title}: {took}" if self._live else f"    {took}", flush=True)


@contextmanager
def _line(title: str) -> Iterator[_Line]:
    line = _Line(title)
    try:
        yield line
    except BaseException as error:
        line.end("stopped" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    line.end("done")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the process group of a stage that was interrupted."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
