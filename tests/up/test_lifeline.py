"""A command behind a lifeline ends when it is told to, and when its parent has gone, however that went."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.up.conftest import until
from webapp.local.lifeline import guarded

STUBBORN = (
    "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; print('up', flush=True); time.sleep(60)"
)
WILLING = "import time; print('up', flush=True); time.sleep(60)"


def _start(
    code: str, *, grace: float = 30.0, stop_signal: str = "TERM"
) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    command = guarded([sys.executable, "-c", code], grace=grace, stop_signal=stop_signal)
    line = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert line.stdout is not None
    assert line.stdout.readline() == b"up\n"
    return line, psutil.Process(line.pid).children()[0]


def test_its_exit_code_is_the_commands() -> None:
    done = subprocess.run(guarded([sys.executable, "-c", "raise SystemExit(70)"]), stdin=subprocess.PIPE, check=False)
    # `run` closes the standard input at once: the command may also have been asked to end.
    assert done.returncode in {70, 128 + signal.SIGTERM}


def test_it_hands_the_signal_on_in_the_form_that_the_command_knows() -> None:
    line, child = _start(WILLING, stop_signal="INT")
    line.terminate()
    assert line.wait(10) in {1, 128 + signal.SIGINT}
    assert not child.is_running()


@pytest.mark.slow
def test_a_stubborn_command_is_killed_after_the_grace_time() -> None:
    line, child = _start(STUBBORN, grace=0.5)
    line.terminate()
    assert line.wait(10) == 128 + signal.SIGKILL
    assert not child.is_running()


def test_a_second_signal_kills_at_once() -> None:
    line, child = _start(STUBBORN)
    line.terminate()
    until(lambda: child.status() == psutil.STATUS_SLEEPING, seconds=5, what="the first signal to be ignored")
    line.send_signal(signal.SIGINT)
    assert line.wait(10) == 128 + signal.SIGKILL


def test_the_command_ends_when_the_parent_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import subprocess, sys, time; from webapp.local.lifeline import guarded; "
        f"p = subprocess.Popen(guarded([sys.executable, '-c', {child!r}]), stdin=subprocess.PIPE); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    pid = int(until(lambda: note.exists() and note.read_text(), seconds=20, what="the command's number"))
    process.kill()
    process.wait()
    until(lambda: not psutil.pid_exists(pid), seconds=10, what="the end of the command")


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux tells a process of its parent's death.")
def test_the_command_ends_when_the_lifeline_itself_is_killed() -> None:
    line, child = _start(WILLING)
    line.kill()
    line.wait()
    until(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=10, what="the command's end"
    )
