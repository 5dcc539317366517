"""Scores of a classification, computed from a confusion matrix (rows true, columns predicted). Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def confusion_of(true: NDArray[np.int64], predicted: NDArray[np.int64], *, classes: int) -> NDArray[np.int64]:
    """Counts images by class, (classes, classes): rows true, columns predicted."""
    cells = np.bincount(true * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


@dataclass(frozen=True)
class ClassScores:
    """Scores of a confusion matrix (K, K). A score whose denominator is 0 is None: not measured, never 0."""

    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def chance(self) -> float:
        """The accuracy of always predicting the largest class."""
        return float(self.counts.sum(axis=1).max() / self.counts.sum())

    @property
    def precision(self) -> list[float | None]:
        """Per class: of the images predicted as it, the share that is of it."""
        return [_ratio(n, d) for n, d in zip(np.diagonal(self.counts), self.counts.sum(axis=0), strict=True)]

    @property
    def recall(self) -> list[float | None]:
        """Per class: of its images, the share predicted as it."""
        return [_ratio(n, d) for n, d in zip(np.diagonal(self.counts), self.counts.sum(axis=1), strict=True)]

    @property
    def support(self) -> list[int]:
        """How many images there are of each class."""
        return [int(n) for n in self.counts.sum(axis=1)]


def _ratio(part: int, whole: int) -> float | None:
    return float(part) / float(whole) if whole else None
