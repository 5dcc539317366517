"""The fork server: one loaded process, a fresh trainer per job, none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ml_core.forkserver import ForkedProcess, fork
from ml_core.job.reporting import ABANDONED
from ml_core.specs import from_preset
from tests.counting import wait_until
from tests.stack import ROOT, alive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="Forking a loaded process is safe on Linux only."),
]


class Server:
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cristae-fork-"))
        self.path = self.folder / "fork.sock"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ml_core.forkserver", str(self.path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

        wait_until(self.path.exists, what="the fork server to listen")

    def load(self) -> None:
        """Whoever asks while it is loading waits for it."""
        with open(os.devnull, "r+b") as nothing:
            streams = [nothing.fileno()] * 3
            asked = fork(self.path, ["presets"], env=dict(os.environ), cwd=ROOT, streams=streams, patience=90)
        assert asked.wait(10) == 0

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    found.load()
    yield found
    found.end()


class Forked:
    """A trainer that waits in its recipe for a folder that never comes, or what `argv` says."""

    def __init__(self, server: Server, argv: list[str], *, out: Path, **environment: str) -> None:
        self.control, theirs = None, None
        read, self.control = os.pipe()
        with open(out, "ab") as log:
            env = {**os.environ, **environment}
            self.process: ForkedProcess = fork(
                server.path, argv, env=env, cwd=ROOT, streams=[read, log.fileno(), log.fileno()]
            )
        os.close(read)
        del theirs

    def wait(self, seconds: float = 20.0) -> int | None:
        return self.process.wait(seconds)

    def close(self) -> None:
        os.close(self.control)


def waiting(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments of a supervised run that waits for its device, and the environment that makes it wait."""
    import fcntl

    spec = tmp_path / "spec.json"
    spec.write_text(from_preset("pretrain", "quick", views="byol").model_dump_json())
    (tmp_path / "inputs.json").write_text(json.dumps({"version": 1, "slots": {}}))
    lock = open(tmp_path / "device.lock", "ab")  # noqa: SIM115  held until the test ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)
    argv = ["run", str(spec), "--inputs", str(tmp_path / "inputs.json"), "--workdir", str(tmp_path / "out")]
    return [*argv, "--supervised", "60"], {"CRISTAE_DEVICE_LOCK": str(tmp_path / "device.lock")}


_held: list[object] = []


def started(tmp_path: Path) -> bool:
    path = tmp_path / "out" / "events.jsonl"
    return path.exists() and b"Waiting for the device" in path.read_bytes()


def test_a_trainer_starts_in_well_under_a_second_and_its_exit_code_comes_back(server: Server, tmp_path: Path) -> None:
    began = time.monotonic()
    forked = Forked(server, ["presets"], out=tmp_path / "log.txt")
    assert forked.wait() == 0
    assert time.monotonic() - began < 2
    assert "pretrain: recommended" in (tmp_path / "log.txt").read_text()
    assert Forked(server, ["no such command"], out=tmp_path / "log.txt").wait() == 2


def test_a_trainer_is_a_process_group_of_its_own_in_the_environment_asked_for(server: Server, tmp_path: Path) -> None:
    argv, environment = waiting(tmp_path)
    forked = Forked(server, argv, out=tmp_path / "log.txt", **environment, CANARY="sings")
    wait_until(lambda: started(tmp_path))
    pid = forked.process.pid
    assert os.getpgid(pid) == os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/1") == str(tmp_path / "log.txt")
    # Nothing of the server's is open in it: no other trainer's pipe may be kept from ending.
    assert not [f for f in os.listdir(f"/proc/{pid}/fd") if "socket" in os.readlink(f"/proc/{pid}/fd/{f}")]
    os.write(forked.control, b"stop\n")
    assert forked.wait() == 75
    forked.close()


def test_the_end_of_its_input_ends_a_trainer(server: Server, tmp_path: Path) -> None:
    argv, environment = waiting(tmp_path)
    forked = Forked(server, argv, out=tmp_path / "log.txt", **environment)
    wait_until(lambda: started(tmp_path))
    forked.close()
    assert forked.wait() == ABANDONED


def test_a_killed_trainer_is_reported_and_the_server_goes_on(server: Server, tmp_path: Path) -> None:
    argv, environment = waiting(tmp_path)
    forked = Forked(server, argv, out=tmp_path / "log.txt", **environment)
    wait_until(lambda: started(tmp_path))
    os.kill(forked.process.pid, signal.SIGSEGV)
    assert forked.wait() == -signal.SIGSEGV
    forked.close()
    assert Forked(server, ["presets"], out=tmp_path / "log.txt").wait() == 0


def test_who_goes_without_waiting_takes_the_trainer_along(server: Server, tmp_path: Path) -> None:
    argv, environment = waiting(tmp_path)
    forked = Forked(server, argv, out=tmp_path / "log.txt", **environment)
    wait_until(lambda: started(tmp_path))
    trainer = psutil.Process(forked.process.pid)
    forked.process._connection.close()
    wait_until(lambda: not alive(trainer), seconds=5)
    forked.close()


def test_many_at_once_all_answer(server: Server, tmp_path: Path) -> None:
    forked = [Forked(server, ["presets"], out=tmp_path / f"{n}.txt") for n in range(12)]
    assert [f.wait() for f in forked] == [0] * 12
    wait_until(lambda: not psutil.Process(server.process.pid).children())


def test_nonsense_is_answered_and_harms_nobody(server: Server, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        asker.connect(str(server.path))
        asker.send(b"[1, 2]")
        assert b"error" in asker.recv(1024)
    assert Forked(server, ["presets"], out=tmp_path / "log.txt").wait() == 0


def test_only_its_owner_may_speak_to_it(server: Server) -> None:
    assert server.path.stat().st_mode & 0o077 == 0


def test_a_dead_server_takes_its_trainers_along_and_says_abandoned(tmp_path: Path) -> None:
    own = Server()
    own.load()
    argv, environment = waiting(tmp_path)
    forked = Forked(own, argv, out=tmp_path / "log.txt", **environment)
    wait_until(lambda: started(tmp_path))
    trainer = psutil.Process(forked.process.pid)
    own.process.kill()
    assert forked.wait() == ABANDONED
    wait_until(lambda: not alive(trainer), seconds=5)
    own.process.wait(5)  # Until all of it is gone, its socket still takes and drops a connection.
    with pytest.raises(OSError, match=r"refused|No such file"):
        fork(own.path, ["presets"], env={}, cwd=ROOT, streams=[0, 1, 2])
