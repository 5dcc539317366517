"""Precision and recall of a binary segmentation at every threshold, from histograms of constant size."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml_core.job.files import write_whole

STEPS = 1024
"""Thresholds 0, 1/1024, ..., 1023/1024. A power of two: such thresholds and their multiples are exact in float32, so
that counting by histogram and comparing pixel by pixel agree to the last pixel."""


class ProbabilityHistogram:
    """Histograms of the foreground probability, separately for true foreground and background, on the device."""

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def add(self, probabilities: Tensor, truth: Tensor) -> None:
        """Adds `probabilities` of foreground in 0..1 and `truth` (0 or 1), of one shape. No synchronisation."""
        # Bin i > 0 counts probabilities above threshold (i - 1) / STEPS and not above i / STEPS.
        bins = (probabilities.float() * STEPS).ceil().long() + (STEPS + 1) * truth.long()
        if self._counts is None:
            self._counts = torch.zeros(2 * (STEPS + 1), dtype=torch.int64, device=bins.device)
        self._counts.scatter_add_(0, bins.flatten(), torch.ones_like(bins).flatten())

    def curve(self) -> PrecisionRecall:
        counts = np.zeros((2, STEPS + 1), np.int64)
        if self._counts is not None:
            counts = self._counts.cpu().numpy().reshape(2, STEPS + 1)
        # The bins after i are above threshold i / STEPS.
        above = counts[:, ::-1].cumsum(axis=1)[:, ::-1] - counts
        return PrecisionRecall(
            hit=above[1, :STEPS],
            predicted=above[:, :STEPS].sum(axis=0),
            foreground=int(counts[1].sum()),
            pixels=int(counts.sum()),
        )


@dataclass(frozen=True)
class PrecisionRecall:
    """At each of the thresholds i / STEPS: `hit` and `predicted` (STEPS,) count pixels whose probability is above it;
    `foreground` counts the true ones among all `pixels`."""

    hit: NDArray[np.int64]
    predicted: NDArray[np.int64]
    foreground: int
    pixels: int

    @property
    def thresholds(self) -> NDArray[np.float64]:
        return np.arange(STEPS) / STEPS

    @property
    def precision(self) -> NDArray[np.float64]:
        """1 where nothing is predicted, as in scikit-learn."""
        return np.where(self.predicted > 0, self.hit / np.maximum(self.predicted, 1), 1.0)

    @property
    def recall(self) -> NDArray[np.float64]:
        return self.hit / max(self.foreground, 1)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Pooled foreground IoU."""
        union = self.predicted + self.foreground - self.hit
        return np.where(union > 0, self.hit / np.maximum(union, 1), 0.0)

    def best_threshold(self) -> float | None:
        """The threshold with the greatest foreground IoU, of equals that nearest to 0.5; None without foreground."""
        if not self.foreground:
            return None
        best = np.flatnonzero(self.iou == self.iou.max())
        return float(self.thresholds[best[np.abs(best - STEPS // 2).argmin()]])

    def iou_at(self, threshold: float) -> float | None:
        """The foreground IoU at the multiple of 1/1024 nearest to `threshold`; None without foreground."""
        return float(self.iou[min(round(threshold * STEPS), STEPS - 1)]) if self.foreground else None

    def average_precision(self) -> float | None:
        """The sum of precision times the gain of recall over the thresholds, falling (as scikit-learn's
        `average_precision_score`, on probabilities that are rounded up to 1/1024). None without foreground."""
        if not self.foreground:
            return None
        # From nothing predicted, over ever lower thresholds, to everything: pixels of probability 0 come last.
        recall = np.concatenate([[0.0], self.recall[::-1], [1.0]])
        precision = np.concatenate([self.precision[::-1], [self.foreground / self.pixels]])
        return float((np.diff(recall) * precision).sum())

    def write_csv(self, path: Path) -> Path:
        """Writes one row per threshold."""

        def rows(file: IO[bytes]) -> None:
            text = io.StringIO(newline="")
            out = csv.writer(text)
            out.writerow(["threshold", "precision", "recall", "foreground_iou"])
            for row in zip(self.thresholds, self.precision, self.recall, self.iou, strict=True):
                out.writerow([f"{value:.10g}" for value in row])
            file.write(text.getvalue().encode())

        write_whole(path, rows)
        return path
