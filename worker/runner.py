"""The processes of one host's worker: the fork server and a worker process per queue. `manage.py work` becomes this.

Restarts processes that die, forwards TERM, and leaves no process behind: each child holds the end of a pipe that closes
when this process ends, even if it is killed.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

import django
from django.conf import settings

from webapp.local.processes import RestartPause

log = logging.getLogger("worker.runner")

QUEUES = ("device", "interactive", "io")
LEAVE_SECONDS = 35.0
"""Seconds from TERM to KILL. Trainers get half a minute for a checkpoint (worker.supervisor.LEAVE)."""
TICK_SECONDS = 0.1


class Child:
    """A process that is restarted when it dies, after growing pauses if it dies quickly, but not if it exited with the
    code `unfit`."""

    def __init__(self, name: str, command: Sequence[str], *, unfit: int | None = None) -> None:
        self.name = name
        self._command = list(command)
        self._unfit = unfit
        self._pause = RestartPause(first=0.5, longest=10.0, settled=30.0)
        self._due = 0.0
        self._began = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def tend(self) -> None:
        """Starts the process if it is not running and its pause is over. To be called several times a second."""
        now = time.monotonic()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._let_go()
            if code == self._unfit:
                self._due = float("inf")
                return
            pause = self._pause.after(now - self._began)
            self._due = now + pause
            log.warning("%s ended with %d; it is started again in %.1f s.", self.name, code, pause)
        if now >= self._due:
            self._start(now)

    def _start(self, now: float) -> None:
        self._began = now
        self._process = subprocess.Popen(
            self._command,
            cwd=settings.ROOT,
            stdin=subprocess.PIPE,
            env={**os.environ, "CRISTAE_LIFELINE": "stdin", "CRISTAE_DATABASE_POOL": "0"},
            start_new_session=True,  # Ctrl-C in a terminal reaches only the runner, which stops the others in order
        )

    def _let_go(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None

    def ask_to_leave(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def see_off(self, deadline: float) -> None:
        """Waits for the process to exit, until `deadline` at most; then kills it."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("%s did not exit in time and is killed.", self.name)
            self._process.kill()
            self._process.wait()
        self._let_go()


def _workers(queues: Sequence[str]) -> list[Child]:
    from worker.host_devices import devices_of_host

    slots = {"device": len(devices_of_host()), "interactive": 1, "io": 2}
    return [
        Child(
            f"worker of {queue}",
            [
                # Quiet: without its banner, and without its warning about root, which containers and `up` deal with.
                *(sys.executable, "-W", "ignore:You're running the worker with superuser"),
                *("-m", "celery", "--quiet", "-A", "worker.app", "worker"),
                *("-P", "threads", "-c", str(slots[queue]), "-Q", queue, "-n", f"{queue}.{os.getpid()}@%h"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"),
            ],
        )
        for queue in queues
    ]


def _fork_server() -> list[Child]:
    """Empty on macOS, where forking a process that has loaded frameworks is not safe."""
    if settings.TRAINER != "forkserver" or sys.platform != "linux":
        return []
    from ml_core.forkserver import UNFIT
    from worker.trainer_process import forkserver_socket

    command = [sys.executable, "-m", "ml_core.forkserver", str(forkserver_socket())]
    return [Child("fork server", command, unfit=UNFIT)]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="manage.py work", description="Runs the jobs of the queues on this host.")
    parser.add_argument("--queues", default=",".join(QUEUES), help=f"which of {', '.join(QUEUES)} (all)")
    queues = [queue.strip() for queue in parser.parse_args(argv).queues.split(",") if queue.strip()]
    if unknown := [queue for queue in queues if queue not in QUEUES]:
        parser.error(f"there is no queue {unknown[0]}; there are: {', '.join(QUEUES)}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    django.setup()
    workers, helpers = _workers(queues), _fork_server() if {"device", "interactive"} & set(queues) else []
    while not stop.is_set():
        for child in [*helpers, *workers]:
            child.tend()
        stop.wait(TICK_SECONDS)
    deadline = time.monotonic() + LEAVE_SECONDS
    for child in workers:
        child.ask_to_leave()
    for child in workers:
        child.see_off(deadline)
    for child in helpers:  # last: it kills the trainers that it has forked
        child.ask_to_leave()
        child.see_off(time.monotonic() + 5.0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
