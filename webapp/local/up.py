"""`manage.py up`: all of Cristae on one machine, in one terminal.

Starts PostgreSQL and Redis unless given (DATABASE_URL, REDIS_URL), migrates the database, starts the web server, the
workers and the reaper, prints a sign-in link, and restarts what dies. INT, TERM and HUP stop all of them:
worker, web, reaper, broker, database, in this order, so that each can still reach what it needs for an orderly end.
If `up` itself is killed it cannot do that; its children then detect that their lifelines are cut
(webapp.local.lifeline) and exit by themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from webapp.local import conditions, variables
from webapp.local.conditions import CannotStart
from webapp.local.health import answers
from webapp.local.lifeline import guarded
from webapp.local.processes import Part, Service, Watch
from webapp.local.servers import EngineError, Postgres, Redis, private_folder

TICK_SECONDS = 0.1
LEAVE_SECONDS = 40.0
"""How long the children of a killed `up` have to release the port: the longest grace of one that listens, and more."""
WORKER_GRACE, WEB_GRACE, REAPER_GRACE = 60.0, 15.0, 10.0
"""Seconds from TERM to KILL. A worker asks its trainers for a checkpoint first."""
SLOW_SECONDS = 60.0
IMPATIENT_SECONDS = 2.0
"""A second signal after this time means: kill the process that is being stopped. A sooner one is the same Ctrl-C,
which a terminal, make and timeout may each forward."""


class Stopped(Exception):
    """A stop was requested during startup."""


class Up:
    """All processes of Cristae on this machine."""

    def __init__(self, *, data: Path, host: str, port: int, demo: bool) -> None:
        self.data = data
        self.host = host
        self.port = port
        self.demo = demo
        self.stopping = False
        self._asked = 0.0
        self._leaving: Part | None = None
        self.parts: list[Part] = []
        self.watches: list[Watch] = []
        self.services: list[Service] = []

    # --- signals ---

    def listen(self) -> None:
        """Installs signal handlers, since a shell script starts background commands with INT ignored."""
        signal.signal(signal.SIGINT, self._asked_to_stop)
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: continue without the terminal
            signal.signal(signal.SIGHUP, self._asked_to_stop)

    def _asked_to_stop(self, *_: object) -> None:
        now = time.monotonic()
        if not self.stopping:
            self._asked = now
        elif self._leaving is not None and now - self._asked > IMPATIENT_SECONDS:
            self._leaving.hurry()
        self.stopping = True

    def _go_on(self) -> None:
        if self.stopping:
            raise Stopped

    # --- startup ---

    def run(self) -> None:
        """Starts everything and runs until asked to stop. Raises CannotStart."""
        claim = self._claim()
        try:
            try:
                self._start()
                self._make_demo()
                self._greet()
                while True:
                    self._tick()
            except Stopped:
                self._print("Stopping. Running jobs write a checkpoint and go on at the next start.")
        finally:
            self.stopping = True
            self._stop()
            variables.withdraw(self.data)
            claim.release()

    def _claim(self) -> variables.Claim:
        conditions.folder_usable(self.data)
        conditions.disk_has_room(self.data)
        conditions.front_end_built(variables.ROOT)
        claim = variables.Claim(self.data)
        if (other := claim.take()) is not None:
            raise CannotStart(
                f"Cristae already runs on {self.data} (process {other}). Use that one, stop it, "
                "or start another beside it: manage.py up --data FOLDER --port PORT."
            )
        killed = variables.left_behind(self.data)
        conditions.port_free(self.host, self.port, patience=LEAVE_SECONDS if killed else 0.0)
        return claim

    def _start(self) -> None:
        variables.set_defaults(data=self.data, host=self.host, port=self.port)
        own = [name for name in ("DATABASE_URL", "REDIS_URL") if name not in os.environ]
        if "DATABASE_URL" in own:
            self._engine("DATABASE_URL", Postgres(self.data / "postgres"))
        if "REDIS_URL" in own:
            self._engine("REDIS_URL", Redis(self.data / "redis"))
        shared = [
            "CRISTAE_DATA",
            "CRISTAE_URL",
            "CRISTAE_EXTRA_HOSTS",
            "CRISTAE_SECRET_KEY",
            "DATABASE_URL",
            "REDIS_URL",
        ]
        variables.publish(self.data, [name for name in shared if name in os.environ])
        self._print("Migrating the database")
        self._command("migrate", "--verbosity", "0")
        self._service("reaper", "reapjobs", grace=REAPER_GRACE)
        self._service("web", "web", "--host", self.host, "--port", str(self.port), grace=WEB_GRACE)
        self._service("worker", "work", grace=WORKER_GRACE)

    def _engine(self, variable: str, engine: Postgres | Redis) -> None:
        self._go_on()
        self._print(f"Starting {engine.name} ({engine.folder})")
        self.parts.append(engine)
        engine.start()
        os.environ[variable] = engine.url
        self.watches.append(Watch(engine))

    def _service(self, name: str, *arguments: str, grace: float) -> None:
        self._go_on()
        logs = private_folder(self.data / "logs")
        service = Service(name, self._manage(*arguments), folder=logs, cwd=variables.ROOT, grace=grace)
        self.parts.append(service)
        self.services.append(service)
        service.start()
        self.watches.append(Watch(service))

    def _make_demo(self) -> None:
        """Creates the demo project while the web server starts, so that the first page has content."""
        if not self.demo:
            return
        try:
            if done := self._command("demo"):
                self._print(done)
        except CannotStart as error:
            self._print(f"There is no demo project: {error}")  # everything else works without it

    def _greet(self) -> None:
        """Prints the address once the web server responds."""
        began, announced = time.monotonic(), False
        while not answers(self.host, self.port):
            self._tick()
            if not announced and time.monotonic() - began > SLOW_SECONDS:
                announced = True
                self._print(
                    f"The web server has not answered for {SLOW_SECONDS:.0f} s. Its log is in {self.data / 'logs'}."
                )
        link = self._command("signin-link", "--make", *(["demo"] if self.demo else []))
        self._print(
            f"\nCristae runs at {os.environ['CRISTAE_URL']}\n\n  Sign in (once, within 24 hours): {link}\n\n"
            "Another link: manage.py signin-link. Ctrl-C stops everything.\n"
        )

    # --- running ---

    def _tick(self) -> None:
        """Checks every process once. Raises Stopped if a stop was requested."""
        self._go_on()
        self._show()
        for watch in self.watches:
            if sentence := watch.check():
                self._print(sentence)
        time.sleep(TICK_SECONDS)

    def _show(self) -> None:
        for service in self.services:
            for line in service.new_lines():
                self._print(f"{service.name:<6} | {line}")

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be closed; Cristae keeps running
            print(text, flush=True)

    def _manage(self, *arguments: str) -> list[str]:
        return [sys.executable, str(variables.ROOT / "manage.py"), *arguments]

    def _command(self, *arguments: str) -> str:
        """Runs a management command in a process of its own; returns its output."""
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
            process = subprocess.Popen(
                guarded(self._manage(*arguments)),
                cwd=variables.ROOT,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=complained,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    self._tick()
            finally:
                process.terminate()
                process.wait()
            said.seek(0)
            complained.seek(0)
            if process.returncode:
                words = (complained.read() or said.read()).decode(errors="replace").strip().splitlines()
                raise CannotStart(
                    f"`manage.py {arguments[0]}` failed: {words[-1] if words else 'it printed no reason'}"
                )
            return said.read().decode(errors="replace").strip()

    # --- shutdown ---

    def _stop(self) -> None:
        """Stops the processes in order: each before those that it depends on."""
        order = ["worker", "web", "reaper", Redis.name, Postgres.name]
        for part in sorted(self.parts, key=lambda p: order.index(p.name)):
            self._leaving = part
            part.stop()
            self._show()


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit code: 0 if it was asked to stop."""
    parser = argparse.ArgumentParser(prog="manage.py up", description="Runs all of Cristae on this machine.")
    parser.add_argument("--demo", action="store_true", help="make a demo project and train on it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at (8000)")
    parser.add_argument("--data", type=Path, help="folder for everything that must survive (var, or CRISTAE_DATA)")
    options = parser.parse_args(arguments)
    data = options.data.expanduser().resolve() if options.data else variables.data_folder()
    up = Up(data=data, host=options.host, port=options.port, demo=options.demo)
    up.listen()
    try:
        up.run()
    except (CannotStart, EngineError) as error:
        print(f"Cristae cannot start: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder without access: the system's message is a sentence
        print(f"Cristae cannot start: {error.filename or data}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0
