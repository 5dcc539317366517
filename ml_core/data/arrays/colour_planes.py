"""Stores the colour planes of a dataset while a job computes them: a memory-mapped file, and checkpoints of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ml_core.errors import UserError
from ml_core.job import checkpoints
from ml_core.job.reporting import Reporter

PLANES = "planes.npy"
ABOUT = "about.json"
CHECKPOINT_SECONDS = 30
CHECKPOINT_SHARE = 0.05
"""Writing checkpoints takes at most this share of the time, however large they are."""


class Planes:
    """ab planes (N, 2, side, side) uint8 in manifest order, filled from the front; `done` counts the finished ones.

    Begins with the newest checkpoint in the job's own folder, else with `resume`. `about` describes the source of the
    planes and the settings; a checkpoint with another description belongs to another run and raises UserError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        count: int,
        side: int,
        about: Mapping[str, Any],
        resume: Path | None,
        reporter: Reporter,
    ) -> None:
        self._checkpoints = folder / "checkpoints"
        self._about = json.dumps({**about, "count": count, "side": side}, sort_keys=True)
        self._reporter = reporter
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._path = folder / "planes.part"
        self.all: NDArray[np.uint8] = np.memmap(self._path, dtype=np.uint8, mode="w+", shape=(count, 2, side, side))
        self.done = 0
        start = checkpoints.newest(self._checkpoints)
        if start is None and resume is not None and checkpoints.is_whole(resume):
            start = resume
        if start is not None:
            self._begin(start)

    def append(self, planes: NDArray[np.uint8]) -> None:
        """Appends the next planes, (B, 2, side, side)."""
        self.all[self.done : self.done + len(planes)] = planes
        self.done += len(planes)

    def checkpoint_when_due(self) -> None:
        """Writes a checkpoint if the last is old enough, also in relation to the time that writing one takes."""
        if time.monotonic() - self._saved_at >= max(CHECKPOINT_SECONDS, self._cost / CHECKPOINT_SHARE):
            self.checkpoint()

    def checkpoint(self) -> None:
        started = time.monotonic()

        def write_planes(file: IO[bytes]) -> None:
            np.save(file, self.all[: self.done])

        path = checkpoints.save(
            self._checkpoints,
            step=self.done,
            files={PLANES: write_planes, ABOUT: lambda file: file.write(self._about.encode())},
        )
        checkpoints.prune(self._checkpoints)
        self._reporter.checkpoint(self.done, path)
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - started

    def close(self) -> None:
        """Removes the working file; the planes must not be used afterwards."""
        self._path.unlink(missing_ok=True)

    def _begin(self, start: Path) -> None:
        if (start / ABOUT).read_text() != self._about:
            raise UserError(
                "The planes in this folder were made of another dataset, or by other settings. Keep these as they "
                "were, or start a new run in another folder."
            )
        kept = np.load(start / PLANES, mmap_mode="r", allow_pickle=False)
        self.append(kept)
        self._reporter.record(resumed_step=self.done)
        self._reporter.note(f"Resumed after {self.done:,} of {len(self.all):,} images.")
