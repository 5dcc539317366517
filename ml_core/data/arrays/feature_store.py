"""Caches feature vectors on disk under a key; a stopped computation is resumed by the next job. Imports no torch."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_core.data.arrays.prepare import Progress
from ml_core.errors import UserError
from ml_core.job.files import write_whole

FLUSH_SECONDS = 10
"""After a crash of the machine, at most this much work is computed again."""
WAIT_SECONDS = 0.2


def stored_features(
    root: Path,
    *,
    key: str,
    count: int,
    width: int,
    batch: int,
    compute: Callable[[int, int], NDArray[np.float32]],
    progress: Progress,
) -> NDArray[np.float32]:
    """The memory-mapped array (count, width) of `key`; rows that no earlier job has computed are computed now.

    `compute(first, end)` returns the rows first..end, at most `batch` of them; batches begin at the same rows however
    often the work was interrupted, so that results are identical to the bit. A job that needs an array while another
    computes it waits. `progress` is called as (done, count) and may raise to stop: finished rows are kept.
    """
    path = root / f"features-{key}.npy"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock"), waiting=lambda: progress(_done(path), count)):
            if not path.exists():
                _fill(path, count=count, width=width, batch=batch, compute=compute, progress=progress)
    features: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    if features.shape != (count, width) or features.dtype != np.float32:
        raise UserError(f"{path} holds another array than its name says. Delete it; it is made again at the next run.")
    return features


def _fill(
    path: Path,
    *,
    count: int,
    width: int,
    batch: int,
    compute: Callable[[int, int], NDArray[np.float32]],
    progress: Progress,
) -> None:
    part = path.with_suffix(".part")
    done = _done(path) if part.exists() else 0
    with open(part, "r+b" if done else "w+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, width)})
        start = file.tell()
        file.truncate(start + done * width * 4)
        file.seek(0, os.SEEK_END)
        flushed = time.monotonic()
        try:
            progress(done, count)
            while done < count:
                end = min(done + batch, count)
                rows = compute(done, end)
                assert rows.shape == (end - done, width), "a batch of features has another shape than was said"
                file.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
                done = end
                if time.monotonic() - flushed >= FLUSH_SECONDS:
                    _seal(file.fileno(), path, done=done, flush=file.flush)
                    flushed = time.monotonic()
                progress(done, count)
        finally:
            _seal(file.fileno(), path, done=done, flush=file.flush)
    os.replace(part, path)
    _count_of(path).unlink(missing_ok=True)


def _seal(descriptor: int, path: Path, *, done: int, flush: Callable[[], None]) -> None:
    """Writes the rows to disk before their count, so that the count is never ahead of the rows."""
    flush()
    os.fsync(descriptor)
    write_whole(_count_of(path), lambda file: file.write(json.dumps({"done": done}).encode()))


def _done(path: Path) -> int:
    """How many rows of the unfinished file of `path` are known to be on disk."""
    try:
        return int(json.loads(_count_of(path).read_bytes())["done"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0


def _count_of(path: Path) -> Path:
    return path.with_suffix(".done")


@contextmanager
def _locked(path: Path, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock; calls `waiting` regularly while another job has it. The kernel frees it when a process dies."""
    with open(path, "ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(WAIT_SECONDS)
        yield
