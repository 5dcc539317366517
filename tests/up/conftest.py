"""A real `manage.py up` in a folder of its own, and a person with a browser's cookies."""

from __future__ import annotations

import contextlib
import http.cookiejar
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("DATABASE_URL", "REDIS_URL", "CRISTAE_SECRET_KEY", "CRISTAE_DATA", "CRISTAE_RUN", "CRISTAE_URL")
START_SECONDS = 120
T = TypeVar("T")


def until(asked: Callable[[], T], *, seconds: float, what: str) -> T:
    """Waits for a true answer, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := asked():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data: Path, *, trainer: str = "process") -> dict[str, str]:
    """What a newcomer's shell has. Trainers as processes: no fork server loads torch where nothing trains."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**kept, "CRISTAE_DATA": str(data), "CRISTAE_TRAINER": trainer, "CRISTAE_LEASE_SECONDS": "30"}


def reset_hang_up() -> None:
    """For `preexec_fn`: a suite that was started under `nohup` ignores HUP, and its children would inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Running:
    """A `manage.py up` that was started, and all that it says."""

    def __init__(
        self, data: Path, *, port: int | None = None, options: tuple[str, ...] = (), trainer: str = "process"
    ) -> None:
        self.data = data
        self.trainer = trainer
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.said = Path(tempfile.mkdtemp(prefix="cristae-said-")) / "said.txt"
        self.command = [sys.executable, str(ROOT / "manage.py"), "up", "--port", str(self.port), *options]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Running:
        with open(self.said, "ab") as out:
            self.process = subprocess.Popen(
                self.command,
                env=environment(self.data, trainer=self.trainer),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return self

    @property
    def words(self) -> str:
        return self.said.read_text(errors="replace") if self.said.exists() else ""

    def link(self) -> str:
        """The link that it prints when the web answers."""

        def printed() -> str | None:
            assert self.process is not None
            assert self.process.poll() is None, f"`up` ended: {self.words}"
            found = re.findall(r"http://\S+/in/\S+", self.words)
            return found[-1] if found else None

        return until(printed, seconds=START_SECONDS, what=f"a link in: {self.words}")

    def ended(self, seconds: float) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self, number: int = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.ended(90)

    def family(self) -> list[psutil.Process]:
        """Every process that has to do with this data folder, found by what it was started with."""
        found = []
        # Redis shows its socket's path and nothing else; a long data folder has its sockets elsewhere.
        folders = [str(self.data), *(p.read_text() for p in self.data.glob("*/sockets.path"))]
        for process in psutil.process_iter():
            try:
                named = any(folder in word for word in process.cmdline() for folder in folders)
                if (named or process.environ().get("CRISTAE_DATA") == str(self.data)) and process.is_running():
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def commands(self) -> dict[psutil.Process, str]:
        """The family with their command lines; who ends while it is asked is left out."""
        found = {}
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                found[process] = " ".join(process.cmdline())
        return found

    def member(self, *words: str) -> psutil.Process:
        """The one process whose command has all `words`, without the lifeline in front of it."""
        commands = self.commands()
        for process, command in commands.items():
            if all(word in command for word in words) and "lifeline.py" not in command:
                return process
        raise AssertionError(f"no process with {words} among {[*commands.values()]}")


class Person:
    """Opens pages and keeps cookies, as a browser does."""

    def __init__(self) -> None:
        jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        self.here = ""

    def open(self, url: str, fields: dict[str, str] | None = None) -> str:
        data = urllib.parse.urlencode(fields).encode() if fields is not None else None
        with self.opener.open(url, data, timeout=20) as answer:
            self.here = answer.url
            return str(answer.read().decode())

    def sign_in(self, link: str) -> str:
        """Opens the link, presses its button, and returns the page that follows."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.open(link))
        assert token, "the page of the link has no form"
        return self.open(link, {"csrfmiddlewaretoken": token[1]})


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts `up` as often as the test wants to; whatever is left at the end is killed."""
    made: list[Running] = []

    def start(name: str = "data", *, start: bool = True, **options: Any) -> Running:
        running = Running(tmp_path / name, **options)
        made.append(running)
        return running.start() if start else running

    yield start
    for running in made:
        clear(running)


def clear(running: Running) -> None:
    if running.process is not None and running.process.poll() is None:
        running.process.terminate()
        try:
            running.process.wait(90)
        except subprocess.TimeoutExpired:
            running.process.kill()
    for process in running.family():
        with contextlib.suppress(psutil.NoSuchProcess):  # it was just leaving
            process.kill()
    shutil.rmtree(running.said.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that runs, for the tests that change nothing about it."""
    running = Running(tmp_path_factory.mktemp("up") / "data").start()
    running.link()
    yield running
    clear(running)
