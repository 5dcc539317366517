"""Runs a job over and over, killing it at given steps, until it comes to its end.

A program of its own: it loads torch once, does nothing with it, and forks each attempt, as the fork server does.

    python -m tests.ml_core.killing '["run", "spec.json", "--workdir", "out", ...]' '[12, 30]'
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import segmentation_models_pytorch as smp  # noqa: F401  so that no attempt has to load it
import torch  # noqa: F401

from ml_core.__main__ import main


def furthest_step(folder: Path) -> int:
    """The highest step that any point so far has."""
    path = folder / "events.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    events = (json.loads(line) for line in whole.splitlines())
    return max((event["step"] for event in events if event["kind"] == "point"), default=0)


def attempt(argv: list[str], *, kill_at: int | None, folder: Path) -> int:
    """One run in a forked process; returns its exit code, -9 where it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = main(argv)
        finally:
            sys.stdout.flush()
            os._exit(code)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG if kill_at is not None else 0)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if kill_at is not None and furthest_step(folder) >= kill_at:
            os.kill(child, signal.SIGKILL)
            kill_at = None
        time.sleep(0.002)


if __name__ == "__main__":
    command, kills = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    workdir = Path(command[command.index("--workdir") + 1])
    codes = [attempt(command, kill_at=step, folder=workdir) for step in [*kills, None]]
    print(json.dumps(codes))
