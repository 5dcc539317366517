"""However `manage.py up` is ended, and whenever: nothing of it stays, and the next start finds nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.up.conftest import ROOT, Running, answers, environment, reset_hang_up, until

Starter = Callable[..., Running]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CTRL_C = b"\x03"


class Terminal:
    """A terminal in which `up` was started; `words` are what stands before it on the command line."""

    def __init__(self, up: Running, *words: str) -> None:
        self._keys, inside = os.openpty()
        up.process = subprocess.Popen(
            [*words, *up.command],
            env=environment(up.data),
            cwd=up.data.parent,  # nohup writes a file where it is called
            preexec_fn=lambda: (reset_hang_up(), os.login_tty(inside)),
        )
        os.close(inside)

    def press(self, key: bytes) -> None:
        os.write(self._keys, key)

    def close(self) -> None:
        os.close(self._keys)


def phases(up: Running) -> dict[str, Callable[[], bool]]:
    """The stretches of a start, and how each is recognised."""
    return {
        "PostgreSQL is being set up": lambda: runs(up, "--boot"),
        "PostgreSQL starts": lambda: runs(up, "postgres -D"),
        "Redis starts": lambda: (up.data / "redis" / "redis.conf").exists(),
        "the tables are made": lambda: runs(up, "manage.py migrate"),
        "the web starts": lambda: runs(up, "manage.py web"),
        "the demo is made": lambda: runs(up, "manage.py demo"),
    }


def runs(up: Running, words: str) -> bool:
    """Is there a process of this one whose command line holds `words`?"""
    return any(words in command for command in up.commands().values())


def test_ctrl_c_leaves_no_process_whenever_it_comes_and_the_next_start_goes_on(started: Starter) -> None:
    up = started(start=False, options=("--demo",))
    for name, reached in phases(up).items():
        terminal = Terminal(up)
        # On a busy machine a short stretch may pass between two looks; then it is stopped as it runs.
        until(lambda: reached() or answers(up.url), seconds=120, what=name)  # noqa: B023 - asked at once
        terminal.press(CTRL_C)
        terminal.press(CTRL_C)  # as an impatient person does
        assert up.ended(90) == 0, name
        assert up.family() == [], name
        terminal.close()
    up.start().link()
    assert "There is no demo project" not in up.words
    assert up.stop() == 0
    assert up.words.splitlines()[-1].startswith("Stopping. "), "a calm end is one sentence"


def test_ctrl_c_while_it_is_still_being_loaded_ends_it_without_a_word(tmp_path: Path) -> None:
    # Python takes this for its own module, which `up` imports: the key is pressed in that very moment.
    (tmp_path / "tempfile.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    env = environment(tmp_path / "data") | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "up"], env=env, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
    assert not (tmp_path / "data").exists()


def test_a_terminal_that_is_closed_stops_it_too(started: Starter) -> None:
    up = started(start=False)
    terminal = Terminal(up, "sh", "-c", '"$@" & wait', "sh")
    until(lambda: answers(up.url), seconds=120, what="an answer of the web")
    terminal.close()
    until(lambda: not up.family(), seconds=90, what=f"nobody left, but there is {up.family()}")


def test_under_nohup_it_outlives_its_terminal_and_ends_when_it_is_told_to(started: Starter) -> None:
    up = started(start=False)
    terminal = Terminal(up, "nohup")
    until(lambda: answers(up.url), seconds=120, what="an answer of the web")
    terminal.close()
    os.kill(up.process.pid, signal.SIGHUP)
    assert answers(up.url)
    assert up.stop() == 0
    assert up.family() == []


def test_timeout_stops_it_as_a_person_does(started: Starter) -> None:
    up = started(start=False)
    terminal = Terminal(up, "setsid", "--wait", "timeout", "--signal=INT", "3600")
    until(lambda: answers(up.url), seconds=120, what="an answer of the web")
    clock = next(process for process, command in up.commands().items() if command.startswith("timeout "))
    clock.send_signal(signal.SIGALRM)  # its hour is over
    assert up.ended(90) == 124
    assert up.family() == []
    terminal.close()
