"""How good a classification is: figures of one confusion matrix, rows true, columns predicted. Imports no torch."""

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
    """Figures of a confusion matrix (K, K). A figure whose denominator is 0 is None: not measured, never 0."""

    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def chance(self) -> float:
        """The accuracy of whoever always answers the largest class."""
        return float(self.counts.sum(axis=1).max() / self.counts.sum())

    @property
    def precision(self) -> list[float | None]:
        """Of the images that were taken for a class, the share that is of it."""
        return [_ratio(n, d) for n, d in zip(np.diagonal(self.counts), self.counts.sum(axis=0), strict=True)]

    @property
    def recall(self) -> list[float | None]:
        """Of the images of a class, the share that was taken for it."""
        return [_ratio(n, d) for n, d in zip(np.diagonal(self.counts), self.counts.sum(axis=1), strict=True)]

    @property
    def support(self) -> list[int]:
        """How many images there are of each class."""
        return [int(n) for n in self.counts.sum(axis=1)]


def _ratio(part: int, whole: int) -> float | None:
    return float(part) / float(whole) if whole else None
