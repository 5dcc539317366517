"""The images and the compose file, for real: built, started, and the demo's four jobs run to their end in the stack.

Needs Docker with compose, or podman with podman-compose; 20 GB of disk and about half an hour the first time.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.up.conftest import ROOT, Person, answers, free_port, until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(5400)]
OURS = ("web", "worker", "reaper")


class Stack:
    """The compose project in a copy of the committed tree, under a name and a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if _works("docker", "info") and _works("docker", "compose", "version"):
            self.engine, composer = "docker", ["docker", "compose"]
        elif _works("podman-compose", "--version"):
            self.engine, composer = "podman", ["podman-compose"]
        else:
            pytest.skip("There is neither Docker with compose nor podman with podman-compose here.")
        self.compose = [*composer, "-p", "cristae-test"]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def copy(self) -> None:
        """What git has, as a clone would have it, and a .env with passwords of its own."""
        names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.folder / name)
        subprocess.run([self.folder / "bin" / "env"], check=True)
        env = self.folder / ".env"
        text = re.sub(r"(?m)^CRISTAE_PORT=.*$", f"CRISTAE_PORT={self.port}", env.read_text())
        env.write_text(re.sub(r"(?m)^CRISTAE_URL=.*$", f"CRISTAE_URL={self.url}", text))

    def run(self, *arguments: str, timeout: float = 300) -> str:
        done = subprocess.run(
            [*self.compose, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        words = [*self.compose, "exec", "-T", service, *command]
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)


def _works(*command: str) -> bool:
    """Is the program there, and the engine behind it?"""
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack.copy()
    stack.run("build", "web", "worker", timeout=3600)
    try:
        stack.run("up", "-d")
        until(lambda: answers(stack.url), seconds=180, what="the web's answer")
        yield stack
    finally:
        subprocess.run([*stack.compose, "down", "-v"], cwd=stack.folder, capture_output=True, timeout=300, check=False)


@pytest.mark.parametrize("service", OURS)
def test_our_containers_run_as_nobody_who_could_change_them(stack: Stack, service: str) -> None:
    assert stack.inside(service, "id", "-u").stdout.strip() == "10001"
    assert "Read-only file system" in stack.inside(service, "touch", "/app/x").stderr
    status = stack.inside(service, "cat", "/proc/1/status").stdout
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert re.search(rf"{kind}:\s+0+$", status, re.MULTILINE), kind
    assert re.search(r"NoNewPrivs:\s+1$", status, re.MULTILINE)


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_the_engines_run_without_capabilities_too(stack: Stack, service: str) -> None:
    assert stack.inside(service, "id", "-u").stdout.strip() != "0"
    assert re.search(r"CapBnd:\s+0+$", stack.inside(service, "cat", "/proc/1/status").stdout, re.MULTILINE)


def test_the_broker_asks_for_its_password(stack: Stack) -> None:
    assert "NOAUTH" in stack.inside("redis", "redis-cli", "ping").stdout


def test_the_webs_image_has_no_torch(stack: Stack) -> None:
    assert "No module named 'torch'" in stack.inside("web", "python", "-c", "import torch").stderr


def test_nothing_is_published_but_the_web(stack: Stack) -> None:
    published = subprocess.check_output([stack.engine, "ps", "--format", "{{.Names}} {{.Ports}}"], text=True)
    ours = [line for line in published.splitlines() if line.startswith("cristae-test") and "->" in line]
    assert len(ours) == 1, ours
    assert "web" in ours[0]
    assert f"127.0.0.1:{stack.port}->8000" in ours[0]


def test_it_does_not_start_without_a_secret(stack: Stack) -> None:
    done = stack.inside("web", "env", "CRISTAE_SECRET_KEY=", "python", "manage.py", "check")
    assert done.returncode != 0
    assert "CRISTAE_SECRET_KEY is shorter than 50 characters" in done.stderr


def test_the_demos_jobs_run_to_their_end(stack: Stack) -> None:
    email = "alice@example.org"
    link = stack.inside("web", "python", "manage.py", "invite", email, "--admin").stdout.strip().splitlines()[-1]
    alice = Person()
    alice.sign_in(link)
    made = stack.inside("web", "python", "manage.py", "demo", "--user", email)
    assert "four jobs in the queue" in made.stdout, made.stderr
    project = re.search(r'href="(/projects/\d+/)"', alice.open(f"{stack.url}/"))
    assert project
    jobs = sorted(set(re.findall(r'href="(/jobs/\d+/)"', alice.open(f"{stack.url}{project[1]}"))))
    assert len(jobs) == 4

    def states() -> list[str]:
        answers = [json.loads(alice.open(f"{stack.url}{job}events.json?after=0")) for job in jobs]
        found = [answer["job"]["state"] for answer in answers]
        assert "failed" not in found, [answer["job"]["reason"] for answer in answers]
        return found

    until(lambda: set(states()) == {"done"}, seconds=1800, what="the end of four jobs")


def test_the_workers_health_check_is_good(stack: Stack) -> None:
    assert stack.inside("worker", "python", "manage.py", "checkworker").returncode == 0
    assert stack.inside("web", "python", "-m", "webapp.local.health").returncode == 0
