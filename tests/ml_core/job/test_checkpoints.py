"""A checkpoint is whole or not there, wherever its writing was cut off."""

from __future__ import annotations

import builtins
import os
import random
from pathlib import Path
from typing import IO, Any

import pytest

from ml_core.job import checkpoints

pytestmark = pytest.mark.slow


def _save(folder: Path, step: int, *, size: int = 2000) -> Path:
    body = random.Random(step).randbytes(size)
    return checkpoints.save(folder, step=step, files={"a": lambda f: f.write(body), "b": lambda f: f.write(body[:7])})


class _Bomb:
    """Ends the process, as SIGKILL would, after so many bytes written or calls to the file system."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, amount: int = 1) -> None:
        self.left -= amount
        if self.left < 0:
            os._exit(9)

    def file(self, file: IO[bytes]) -> Any:
        bomb = self

        class Dripping:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def write(self, data: bytes) -> int:
                for place in range(0, len(data), 50):
                    file.write(data[place : place + 50])
                    file.flush()
                    bomb.spend()
                return len(data)

        return Dripping()


def _save_in_a_child_that_dies(folder: Path, *, step: int, after: int) -> bool:
    """Saves in a forked process that is cut off; returns whether it was (False: it came to its end)."""
    child = os.fork()
    if child == 0:
        bomb = _Bomb(after)
        real_open = builtins.open

        def opened(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            file = real_open(path, mode, *rest, **named)
            return bomb.file(file) if "w" in mode else file

        builtins.open = opened  # type: ignore[assignment]
        for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir"):
            real = getattr(os, name)

            def call(*given: Any, _real: Any = real, **named: Any) -> Any:
                bomb.spend()
                result = _real(*given, **named)
                bomb.spend()
                return result

            setattr(os, name, call)
        try:
            _save(folder, step)
            checkpoints.prune(folder)
        except BaseException:  # noqa: BLE001  a child must never come back into the tests
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"the child ended with {code}"
    return code == 9


def test_a_whole_checkpoint_is_always_there_wherever_the_next_one_was_cut_off(tmp_path: Path) -> None:
    _save(tmp_path, 100)
    cuts = 0
    for step in range(101, 201):
        before = checkpoints.newest(tmp_path)
        cut = _save_in_a_child_that_dies(tmp_path, step=step, after=step - 101)
        newest = checkpoints.newest(tmp_path)
        assert newest is not None
        assert newest.name in (f"step-{step:012d}", before.name if before else "")
        assert cut or checkpoints.step_of(newest) == step
        cuts += cut
    assert cuts >= 50, "the fault must have struck at 50 places at least"


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    older, newer = _save(tmp_path, 1), _save(tmp_path, 2)
    whole = {name: (newer / name).read_bytes() for name in ("a", "b", checkpoints.SEAL)}
    chance = random.Random(0)
    for _ in range(50):
        name = chance.choice(list(whole))
        body = bytearray(whole[name])
        if chance.random() < 0.5:
            body = body[: chance.randrange(len(body))]
        else:
            body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        (newer / name).write_bytes(body)
        found = checkpoints.newest(tmp_path)
        # A flipped bit in the seal may leave its meaning as it was only in its spaces; nothing else may pass.
        assert found == older or (found == newer and name == checkpoints.SEAL)
        (newer / name).write_bytes(whole[name])
    assert checkpoints.newest(tmp_path) == newer


def test_a_file_that_went_missing_makes_a_checkpoint_no_checkpoint(tmp_path: Path) -> None:
    path = _save(tmp_path, 1)
    (path / "b").unlink()
    assert checkpoints.newest(tmp_path) is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        _save(tmp_path, step)
    (tmp_path / ".step-000000000011.999.tmp").mkdir()
    checkpoints.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000000002", "step-000000000010"]


def test_a_full_disk_leaves_nothing_that_could_be_taken_for_a_checkpoint(tmp_path: Path) -> None:
    def full(_: IO[bytes]) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoints.save(tmp_path, step=1, files={"a": full})
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_was_saved_before_is_left_as_it_is(tmp_path: Path) -> None:
    path = _save(tmp_path, 1)
    before = (path / "a").stat().st_mtime_ns
    assert _save(tmp_path, 1) == path
    assert (path / "a").stat().st_mtime_ns == before
