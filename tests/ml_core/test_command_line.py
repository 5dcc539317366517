"""The trainer's command: exit codes, sentences, locks, the lease."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(Path(__file__).with_name("with_recipe.py"))]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `run` on a recipe that behaves as told; whatever still runs at the end is killed."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin(behaviour: str, *options: str, folder: str = "out", **environment: str) -> subprocess.Popen[bytes]:
        spec = tmp_path / f"{behaviour}.json"
        spec.write_text(json.dumps({"kind": "intake", "filename": behaviour}))
        process = subprocess.Popen(
            [*COMMAND, "run", str(spec), "--workdir", str(tmp_path / folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def _events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def _until(holds: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def _at_work(folder: Path) -> Callable[[], bool]:
    return lambda: any(event["kind"] == "point" for event in _events(folder))


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def test_a_job_that_is_done_exits_with_0(start: Any, tmp_path: Path) -> None:
    assert start("done").wait(20) == 0
    assert [event["seq"] for event in _events(tmp_path / "out")] == [1, 2]


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        ("mend", "The stack has no slices. Upload it again."),
        ("memory", "The memory ran out. Close other programs, or use a machine with more memory."),
        ("disk", "is full. Free some space, then start again."),
    ],
)
def test_what_a_person_can_mend_ends_with_70_and_its_sentence(
    start: Any, tmp_path: Path, behaviour: str, sentence: str
) -> None:
    assert start(behaviour).wait(20) == 70
    last = _events(tmp_path / "out")[-1]
    assert (last["kind"], last["level"]) == ("note", "error")
    assert last["text"].endswith(sentence)


def test_a_crash_leaves_its_traceback_in_the_log(start: Any, tmp_path: Path) -> None:
    process = start("crash")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"KeyError: 'nobody expected this'" in output


def test_stop_ends_it_with_75(start: Any, tmp_path: Path) -> None:
    process = start("wait", "--supervised", "30")
    _until(_at_work(tmp_path / "out"))
    _send(process, b"stop\n")
    assert process.wait(10) == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [(), ("--supervised", "30")])
def test_a_signal_stops_it_with_a_checkpoint(start: Any, tmp_path: Path, number: int, options: tuple[str, ...]) -> None:
    process = start("wait", *options)
    _until(_at_work(tmp_path / "out"))
    process.send_signal(number)
    assert process.wait(10) == 75


def test_when_the_lease_ends_it_leaves_at_once_with_76(start: Any, tmp_path: Path) -> None:
    process = start("deaf", "--supervised", "1.5")
    _until(_at_work(tmp_path / "out"))
    began = time.monotonic()
    assert process.wait(10) == 76
    assert time.monotonic() - began < 4


def test_a_renewed_lease_holds(start: Any, tmp_path: Path) -> None:
    process = start("deaf", "--supervised", "2")
    _until(_at_work(tmp_path / "out"))
    until = time.monotonic() + 4
    while time.monotonic() < until:
        _send(process, b"lease 2\n")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    assert process.wait(10) == 76


def test_when_the_supervisor_is_gone_it_leaves_at_once_with_76(start: Any, tmp_path: Path) -> None:
    process = start("deaf", "--supervised", "60")
    _until(_at_work(tmp_path / "out"))
    process.stdin.close()
    assert process.wait(5) == 76
    process.stdin = None


def test_a_second_run_in_the_same_folder_is_refused_and_writes_nothing(start: Any, tmp_path: Path) -> None:
    first = start("wait")
    _until(_at_work(tmp_path / "out"))
    before = _events(tmp_path / "out")
    second = start("done")
    output, _ = second.communicate(timeout=20)
    assert second.returncode == 70
    assert b"Another run is at work in" in output
    assert _events(tmp_path / "out") == before
    first.terminate()
    assert first.wait(10) == 75


def test_one_trainer_at_a_time_is_on_the_device(start: Any, tmp_path: Path) -> None:
    lock = tmp_path / "device.lock"
    with open(lock, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = start("done", CRISTAE_DEVICE_LOCK=str(lock))
        _until(lambda: any(event["kind"] == "note" for event in _events(tmp_path / "out")))
        stopped = start("done", "--supervised", "30", folder="stopped", CRISTAE_DEVICE_LOCK=str(lock))
        _until(lambda: _events(tmp_path / "stopped"))
        _send(stopped, b"stop\n")
        assert stopped.wait(10) == 75
        assert waiting.poll() is None
        assert not _at_work(tmp_path / "out")()
    assert waiting.wait(10) == 0


def test_a_run_that_goes_on_in_its_folder_counts_its_events_on(start: Any, tmp_path: Path) -> None:
    start("done").wait(20)
    with open(tmp_path / "out" / "events.jsonl", "ab") as file:
        file.write(b'{"seq":3,"kind":"po')  # as a killed process leaves it
    start("done").wait(20)
    assert [event["seq"] for event in _events(tmp_path / "out")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ('{"kind": "intake", "filename": "x", "colour": 1}', "colour: Intake has no field of this name."),
        ('{"kind": "knit"}', "There is no kind of job called 'knit'"),
        ("[]", "is not a specification"),
    ],
)
def test_a_specification_that_cannot_be_used_is_refused_with_a_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "spec.json").write_text(text)
    command = [*COMMAND, "run", str(tmp_path / "spec.json"), "--workdir", str(tmp_path / "out")]
    ended = subprocess.run(
        command, capture_output=True, timeout=20, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert ended.returncode == 70
    assert sentence in _events(tmp_path / "out")[-1]["text"]


def test_the_torch_free_part_stays_free_of_torch() -> None:
    modules = (
        "specs",
        "errors",
        "job.reporting",
        "job.terminal",
        "job.inputs",
        "job.context",
        "job.checkpoints",
        "__main__",
        "runtime.sampler",
    )
    code = "import sys\n" + "".join(f"import ml_core.{name}\n" for name in modules) + "print('torch' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, cwd=ROOT, check=True
    )
    assert ended.stdout.strip() == "False"
