"""`bin/setup` as a newcomer meets it: calm while it works, a sentence where it cannot, nothing half-made in the way."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.up.conftest import ROOT, reset_hang_up, until

SETUP = ["/bin/sh", str(ROOT / "bin" / "setup")]
STAGE = """
import sys
sys.path.insert(0, {bin!r})
from pathlib import Path
from setup import hear
from stages import Refusal, Stages
hear()
try:
    stages = Stages(Path({log!r}))
    stages.wait_turn()
    stages.run("A stage", ["sh", "-c", {command!r}], failed="It was not made.", so_far=lambda said: said.strip())
except Refusal as refusal:
    sys.exit(str(refusal))
except KeyboardInterrupt:
    sys.exit(130)
"""


def stage(folder: Path, command: str) -> list[str]:
    """What runs one stage whose work is the shell's `command`."""
    code = STAGE.format(bin=str(ROOT / "bin"), log=str(folder / "setup.log"), command=command)
    return [sys.executable, "-c", code]


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_stage_is_a_line_and_what_its_program_says_is_in_the_log(tmp_path: Path) -> None:
    done = run(stage(tmp_path, "seq 500"))
    assert done.returncode == 0
    assert [line.partition(", ")[0].strip() for line in done.stdout.splitlines()[1:]] == ["A stage ...", "done"]
    assert (tmp_path / "setup.log").read_text().split() == [str(n) for n in range(1, 501)]


def test_a_stage_that_fails_shows_the_end_of_the_log_its_name_and_what_to_do(tmp_path: Path) -> None:
    done = run(stage(tmp_path, "seq 500; echo 'OSError: [Errno 28] No space left on device'; exit 1"))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[:3] == ["  | 494", "  | 495", "  | 496"]
    assert "It was not made. The disk is full. Free some space, then run this again." in lines
    assert lines[-1] == f"All that was said is in {tmp_path / 'setup.log'}"


@pytest.mark.slow
def test_a_terminal_sees_a_count_that_runs_in_place(tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    command = stage(tmp_path, f"echo 3 of 7; until [ -e {tmp_path}/go ]; do sleep 0.1; done")
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"s, 3 of 7" not in said:
        said += os.read(terminal, 4096)
    assert b"\r" in said
    (tmp_path / "go").touch()
    assert process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_stops_it_leaves_no_process_though_a_script_started_it(tmp_path: Path, number: signal.Signals) -> None:
    # A shell without job control starts background commands with INT ignored; the stage starts one of its own.
    work = f"sh -c 'echo $$ > {tmp_path}/inner; sleep 100' & sleep 100"
    script = '"$@" & echo $! > "$0/pid"; wait'
    command = ["sh", "-c", script, str(tmp_path), *stage(tmp_path, work)]
    shell = subprocess.Popen(command, preexec_fn=reset_hang_up)
    inner = psutil.Process(int(until(lambda: read(tmp_path / "inner"), seconds=20, what="the stage to run")))
    os.kill(int(read(tmp_path / "pid")), number)
    shell.wait(20)
    until(lambda: not inner.is_running() or inner.status() == psutil.STATUS_ZOMBIE, seconds=20, what="no process left")


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def test_of_two_at_once_one_waits_for_the_other(tmp_path: Path) -> None:
    log = tmp_path / "setup.log"
    first = subprocess.Popen(stage(tmp_path, f"echo first; until [ -e {tmp_path}/go ]; do sleep 0.1; done"))
    until(lambda: read(log) == "first", seconds=20, what="the first to work")
    second = subprocess.Popen(stage(tmp_path, "echo second"), stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert second.stdout.readline().startswith("Another setup works in this folder")
    assert read(log) == "first"
    (tmp_path / "go").touch()
    assert (first.wait(20), second.wait(20)) == (0, 0)
    assert read(log) == "second"


@pytest.mark.slow
def test_without_a_network_it_says_what_was_not_reached_and_a_half_made_environment_is_made_anew(
    tmp_path: Path,
) -> None:
    environment = tmp_path / "é w" / ".venv"
    environment.mkdir(parents=True)
    (environment / "pyvenv.cfg").touch()
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    done = run([*SETUP, "--venv", str(environment)], PIP_EXTRA_INDEX_URL="", PIP_FIND_LINKS="", **nowhere)
    assert done.returncode == 1
    assert "Virtual environment with Python" in done.stdout
    assert "The registry was not reached, or does not have it: look at the network" in done.stderr
    assert "Ignoring" not in done.stderr
    assert (environment / "bin" / "pip").exists()
    assert not (environment / "scratch").exists()
    assert not list(environment.glob("*.stamp")), "the next try begins where this one ended"


def test_a_folder_in_the_way_is_a_sentence_and_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    done = run([*SETUP, "--venv", str(tmp_path / "mine")])
    assert (done.returncode, done.stderr.strip()) == (
        1,
        f"{tmp_path / 'mine'} is in the way and is no virtual environment: move it, then run this again.",
    )
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="Only the administrator can become somebody else.")
def test_a_folder_of_somebody_else_is_a_sentence(tmp_path: Path) -> None:
    command = [*SETUP, "--venv", str(tmp_path / ".venv")]
    done = subprocess.run(command, user=65534, group=65534, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"{tmp_path / '.venv-setup.log'} is not yours to write to. Run this as the one whose folder it is, or put "
        "Cristae into a folder of your own."
    )


def test_a_disk_without_room_is_said_before_anything_is_made(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("A small disk is made with `mount -t tmpfs`, which this machine does not allow.")
    try:
        done = run([*SETUP, "--venv", str(disk / ".venv")])
        assert done.returncode == 1
        assert f"The disk of {disk} has 0.1 GB free, and this step needs 1 GB. Free some" in done.stderr
        assert not (disk / ".venv").exists()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
