"""Features on disk: computed once, gone on with after a stop or a death, and never taken for others."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_core.data.arrays import feature_store
from ml_core.data.arrays.feature_store import stored_features
from ml_core.errors import Stopped, UserError

COUNT, WIDTH, BATCH = 23, 5, 4


class Source:
    """Computes rows that say which they are, and remembers which were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, first: int, end: int) -> NDArray[np.float32]:
        self.asked.append((first, end))
        return np.arange(first, end, dtype=np.float32)[:, None] + np.arange(WIDTH, dtype=np.float32) / 10


def _stop_at(limit: int):  # type: ignore[no-untyped-def]
    def progress(done: int, total: int) -> None:
        assert total == COUNT
        if done >= limit:
            raise Stopped("stop")

    return progress


def _stored(root: Path, source: Source, *, stop_at: int = COUNT + 1, key: str = "k") -> NDArray[np.float32]:
    return stored_features(
        root, key=key, count=COUNT, width=WIDTH, batch=BATCH, compute=source, progress=_stop_at(stop_at)
    )


def test_they_are_computed_once_and_found_again(tmp_path: Path) -> None:
    source = Source()
    first = _stored(tmp_path, source)
    asked = list(source.asked)
    again = _stored(tmp_path, source)
    assert source.asked == asked
    assert np.array_equal(first, again)
    assert np.array_equal(first, Source()(0, COUNT))
    _stored(tmp_path, source, key="another")
    assert len(source.asked) == 2 * len(asked)


def test_after_a_stop_the_next_start_goes_on_at_the_same_batches(tmp_path: Path) -> None:
    source = Source()
    with pytest.raises(Stopped):
        _stored(tmp_path, source, stop_at=8)
    assert not list(tmp_path.glob("*.npy"))
    found = _stored(tmp_path, source)
    assert source.asked == [(n, min(n + BATCH, COUNT)) for n in range(0, COUNT, BATCH)]
    assert np.array_equal(found, Source()(0, COUNT))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".npy"]


def test_rows_that_were_written_but_not_sealed_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source()
    with pytest.raises(Stopped):
        _stored(tmp_path, source, stop_at=12)
    # As after a machine's death: the file is longer than what is known to be on the disk, and its end is rubbish.
    part = tmp_path / "features-k.part"
    part.write_bytes(part.read_bytes() + b"\xff" * 33)
    (tmp_path / "features-k.done").write_text('{"done": 8}')
    found = _stored(tmp_path, source)
    assert source.asked[3] == (8, 12)
    assert np.array_equal(found, Source()(0, COUNT))


def _hold(path: Path, ready, free) -> None:  # type: ignore[no-untyped-def]
    with feature_store._locked(path, waiting=lambda: None):
        ready.set()
        free.wait(20)


def test_a_job_that_waits_for_another_can_be_stopped(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    ready, free = fork.Event(), fork.Event()
    other = fork.Process(target=_hold, args=(tmp_path / "features-k.lock", ready, free))
    other.start()
    try:
        assert ready.wait(10)
        source = Source()
        with pytest.raises(Stopped):
            _stored(tmp_path, source, stop_at=0)
        assert not source.asked
    finally:
        free.set()
        other.join(10)


def test_a_file_of_another_shape_is_refused_with_the_remedy(tmp_path: Path) -> None:
    np.save(tmp_path / "features-k.npy", np.zeros((3, WIDTH), np.float32))
    with pytest.raises(UserError, match="Delete it"):
        _stored(tmp_path, Source())
