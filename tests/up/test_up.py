"""`manage.py up` as its user meets it: real engines, a real web server, real signals."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from tests.up.conftest import ROOT, Person, Running, answers, environment, until

Starter = Callable[..., Running]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_printed_link_signs_in_once(up: Running) -> None:
    link = up.link()
    alice, thief = Person(), Person()
    alice.sign_in(link)
    assert alice.here == f"{up.url}/"
    alice.open(f"{up.url}/queue/")
    assert alice.here == f"{up.url}/queue/"
    with pytest.raises((urllib.error.HTTPError, AssertionError)):
        thief.sign_in(link)
    thief.open(f"{up.url}/queue/")
    assert "/sign-in/" in thief.here


def test_another_command_finds_the_engines_of_the_one_that_runs(up: Running) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "signin-link"],
        cwd=ROOT,
        env=environment(up.data),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(f"{up.url}/in/")
    Person().sign_in(done.stdout.strip())


def test_a_second_one_on_the_same_folder_is_refused_in_one_sentence(up: Running) -> None:
    second = Running(up.data).start()
    assert second.ended(30) == 1
    assert f"already runs on {up.data} (process {up.process.pid})" in second.words
    assert len(second.words.splitlines()) == 1
    assert answers(up.url)


def test_another_user_of_the_machine_gets_at_nothing(up: Running) -> None:
    for folder in (up.data, up.data / "postgres" / "sockets", up.data / "redis" / "sockets", up.data / "logs"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for secret in ("secret-key", "postgres/password", "redis/password", "redis/redis.conf", "run/environment.json"):
        assert stat.S_IMODE((up.data / secret).stat().st_mode) == 0o600, secret
    listening = {c.laddr.port for p in up.family() for c in p.net_connections("tcp") if c.status == "LISTEN"}
    assert listening == {up.port}


def test_the_engines_ask_for_their_password_even_at_the_socket(up: Running) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=str(up.data / "postgres" / "sockets"), user="cristae", dbname="cristae")
    client = redis.Redis(unix_socket_path=str(up.data / "redis" / "sockets" / "redis.sock"))
    with pytest.raises(redis.AuthenticationError):
        client.ping()


def test_no_password_stands_on_a_command_line(up: Running) -> None:
    secrets = [(up.data / name / "password").read_text() for name in ("postgres", "redis")]
    for command in up.commands().values():
        assert not any(secret in command for secret in secrets), command


def test_what_dies_is_started_again(started: Starter) -> None:
    up = started()
    up.link()
    broker = "redis-server" if any("redis-server" in command for command in up.commands().values()) else "valkey-server"
    for words in (("manage.py", "web"), (broker,), ("postgres", "-D")):
        victim = up.member(*words)
        before = up.words.count("was started again")
        victim.kill()
        until(lambda: up.words.count("was started again") > before, seconds=60, what=f"a new start of {words}")  # noqa: B023
        until(lambda: answers(up.url), seconds=60, what="an answer of the web")
        assert up.member(*words).pid != victim.pid
    Person().sign_in(_new_link(up))


def _new_link(up: Running) -> str:
    command = [sys.executable, str(ROOT / "manage.py"), "signin-link"]
    return subprocess.check_output(command, env=environment(up.data), text=True, timeout=60).strip()


def test_ctrl_c_leaves_no_process_though_a_script_started_it_in_the_background(
    started: Starter, tmp_path: Path
) -> None:
    up = started(start=False)
    up.data.mkdir()
    up.data.chmod(0o755)
    before = {folder: _rights(folder) for folder in (up.data, *up.data.parents)}
    # A shell without job control starts background commands with INT ignored.
    script = f"{shlex.join(up.command)} >{shlex.quote(str(up.said))} 2>&1 & echo $! >{tmp_path}/pid; wait"
    up.process = subprocess.Popen(["sh", "-c", script], env=environment(up.data), start_new_session=True)
    up.link()
    pid = int((tmp_path / "pid").read_text())
    family = up.family()
    assert len(family) >= 10
    os.kill(pid, signal.SIGINT)
    until(lambda: "Stopping." in up.words, seconds=20, what="the stop to begin")
    os.kill(pid, signal.SIGINT)  # as `timeout` and make hand it on twice: it must stay one stop, in order
    assert up.ended(90) == 0
    assert "shutting down" not in up.words, "the database went before those who use it"
    assert up.family() == []
    assert not any(process.is_running() for process in family)
    assert {folder: _rights(folder) for folder in before} == before, "a folder that was there was altered"


def test_killed_outright_its_children_leave_by_themselves(started: Starter) -> None:
    up = started()
    up.link()
    up.process.kill()
    up.process.wait()
    until(lambda: not up.family(), seconds=75, what=f"nobody left, but there is {up.family()}")


def test_killed_outright_and_started_at_once_it_carries_on(started: Starter) -> None:
    first, person = started(), Person()
    person.sign_in(first.link())
    first.process.kill()
    first.process.wait()
    second = started(port=first.port)
    second.link()
    person.open(f"{second.url}/queue/")
    assert person.here == f"{second.url}/queue/", "the session did not survive"
    assert second.stop(signal.SIGTERM) == 0
    assert second.family() == []


def _rights(folder: Path) -> tuple[int, int, int]:
    status = folder.stat()
    return status.st_uid, status.st_gid, status.st_mode


def test_a_busy_port_is_one_sentence_with_the_remedy(started: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        up = started(port=port)
        assert up.ended(30) == 1
    assert up.words == (
        f"Cristae cannot start: Port {port} is taken by another program. Choose another: "
        f"manage.py up --port {port + 1} (make demo PORT={port + 1}).\n"
    )


def test_a_data_folder_that_cannot_be_made_is_one_sentence(started: Starter, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    up = started("file/data")
    assert up.ended(30) == 1
    assert "cannot be made: Not a directory. Choose another: manage.py up --data FOLDER" in up.words
    assert len(up.words.splitlines()) == 1
