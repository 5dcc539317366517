"""The whole house as separate processes, to be killed at will: own PostgreSQL and Redis, web, worker, reaper.

The test's own Django is pointed at the same database for as long as the house stands.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.db import connections
from django.db.models import F

from tests.counting import TRAINER, Counting, wait_until
from webapp.jobs.models import ENDED, Job, State
from webapp.local.servers import Postgres, Redis
from webapp.projects.models import Project

ROOT = Path(__file__).resolve().parent.parent


class House:
    """Engines and services on a folder of their own. Lease 2 s."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.counting = Counting(folder / "counting")
        self.counting.folder.mkdir()
        self.postgres = Postgres(folder / "pg")
        self.redis = Redis(folder / "redis")
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.port = _free_port()
        self._environment = environment

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_engines(self) -> None:
        self.postgres.start()
        self.redis.start()
        self.environment = {
            **os.environ,
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "CRISTAE_DATA": str(self.folder / "data"),
            "CRISTAE_URL": self.url,
            "CRISTAE_TRAINER": TRAINER,
            "CRISTAE_DEVICES": "cpu",
            "CRISTAE_LEASE_SECONDS": "2",
            "CRISTAE_HINT_AGAIN_SECONDS": "1",
            "COUNTING": str(self.counting.folder),
            **self._environment,
        }
        self.environment.pop("CRISTAE_RUN", None)
        self.manage(
            "migrate", "--run-syncdb", "--skip-checks", "--verbosity", "0", settings="tests.settings_without_migrations"
        )

    def manage(self, *arguments: str, settings: str = "webapp.settings") -> None:
        environment = {**self.environment, "DJANGO_SETTINGS_MODULE": settings}
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, check=True, timeout=60)

    def start(self, name: str, *arguments: str) -> None:
        """Starts a management command; what it says goes to a file beside the data."""
        with open(self.folder / f"{name}.txt", "ab") as log:
            self.services[name] = subprocess.Popen(
                [sys.executable, "manage.py", *(arguments or [name])],
                cwd=ROOT,
                env={**self.environment, "DJANGO_SETTINGS_MODULE": "webapp.settings"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ensure(self, name: str, *arguments: str) -> None:
        """Starts it where it does not run."""
        if name not in self.services or self.services[name].poll() is not None:
            self.start(name, *arguments)

    def clear(self) -> None:
        """No jobs, no trainers, no story of earlier ones."""
        for service in [name for name in self.services if name not in ("work", "reapjobs", "web")]:
            self.stop(service)
        Job.objects.exclude(state__in=ENDED).update(state=State.CANCELLED, epoch=F("epoch") + 1, lease_until=None)
        wait_until(lambda: not self.trainers(), what="the trainers of the last test to leave")
        Project.objects.all().delete()
        for path in self.counting.folder.iterdir():
            path.unlink()

    def start_web(self) -> None:
        self.start("web", "web", "--port", str(self.port))
        wait_until(self._answers, what="the web to answer")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def workers(self, queue: str = "device") -> list[psutil.Process]:
        """The Celery processes of a queue."""
        return [p for p in self.below("work") if "celery" in (line := _command(p)) and queue in line]

    def trainers(self) -> list[psutil.Process]:
        """The counting trainers at work for this house."""
        return [p for p in psutil.process_iter() if str(self.folder) in (c := _command(p)) and "counting.py" in c]

    def below(self, name: str) -> list[psutil.Process]:
        """All processes under a service."""
        try:
            return psutil.Process(self.services[name].pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def stop(self, name: str, *, seconds: float = 45.0) -> int:
        """TERM, and the exit code."""
        process = self.services.pop(name)
        process.terminate()
        return process.wait(seconds)

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self) -> None:
        """Everything goes, without ceremony."""
        left = [p for name in self.services for p in self.below(name)] + self.trainers()
        for process in self.services.values():
            process.kill()
            process.wait()
        for child in left:
            if child.is_running():
                child.kill()
        self.redis.stop()
        self.postgres.stop()


def alive(process: psutil.Process) -> bool:
    """Whether it still does anything: one that has ended and was not yet asked for its exit code does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_engine(engine: Postgres | Redis) -> None:
    """SIGKILL to the server and all its processes, then a new start on the same folder."""
    assert engine.process is not None
    family = psutil.Process(engine.process.pid).children(recursive=True)
    for process in family:
        process.send_signal(signal.SIGKILL)
    engine.process.wait()
    engine.start()


@contextmanager
def house(**environment: str) -> Iterator[House]:
    """A house with its engines up and this process's Django pointed at them."""
    folder = Path(tempfile.mkdtemp(prefix="cristae-house-"))
    found = House(folder, **environment)
    connection = connections["default"]
    before = dict(connection.settings_dict)
    data = {name: getattr(settings, name) for name in ("DATA", "BLOBS", "JOBS", "SPOOL", "PREPARED")}
    try:
        found.start_engines()
        connection.close()
        connection.close_pool()
        connection.settings_dict.update(_coordinates(found.postgres))
        for name in data:
            setattr(settings, name, folder / "data" / (name.lower() if name != "DATA" else ""))
        yield found
    finally:
        connection.close()
        connection.close_pool()
        connection.settings_dict.clear()
        connection.settings_dict.update(before)
        for name, value in data.items():
            setattr(settings, name, value)
        found.end()
        shutil.rmtree(folder, ignore_errors=True)


def _coordinates(postgres: Postgres) -> dict[str, Any]:
    from webapp.settings import _database

    return {k: v for k, v in _database(postgres.url).items() if k != "ENGINE"}
