"""Scores of a segmentation: counts accumulated on the device, and scores with their floor.

Class 0 is background. For one foreground class, mean IoU is the mean of foreground and background IoU, which is the
score of the paper and of Casser et al. 2019. As foreground is rare, predicting nothing already scores about 0.47
there: `floor` holds that score, and foreground IoU is the main result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def confusion(prediction: Tensor, truth: Tensor, *, classes: int) -> Tensor:
    """Counts pixels by class: (B, classes, classes) int64 on the tensors' device; rows true, columns predicted.

    `prediction` and `truth` are integer class maps (B, H, W) with values 0..classes-1. No synchronisation.
    """
    size = prediction.shape[0]
    image = torch.arange(size, device=truth.device).view(size, 1, 1)
    cell = (image * classes + truth.long()) * classes + prediction.long()
    # scatter_add_ rather than bincount, which copies the greatest value from the device and so synchronises.
    counts = torch.zeros(size * classes * classes, dtype=torch.int64, device=truth.device)
    counts.scatter_add_(0, cell.flatten(), torch.ones_like(cell).flatten())
    return counts.view(size, classes, classes)


class ConfusionMeter:
    """Accumulates the counts of many images on the device; they are copied to the host once, by `counts`."""

    def __init__(self, *, classes: int) -> None:
        self.classes = classes
        self._parts: list[Tensor] = []

    def add(self, prediction: Tensor, truth: Tensor) -> None:
        """Adds a batch: both (B, H, W) integer class maps. Images keep the order in which they are added."""
        self.add_counts(confusion(prediction, truth, classes=self.classes))

    def add_counts(self, counts: Tensor) -> None:
        """Adds counts (B, classes, classes) of `confusion`, summed over bands of images too large for memory."""
        self._parts.append(counts)

    def counts(self) -> np.ndarray:
        """(N, classes, classes) int64, one matrix per image."""
        if not self._parts:
            return np.zeros((0, self.classes, self.classes), dtype=np.int64)
        return torch.cat(self._parts).cpu().numpy()


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix. A score whose denominator is 0 is None: not measured, never 0.

    `iou`, `dice`, `precision` and `recall` have one entry per class, background first.
    """

    iou: tuple[float | None, ...]
    dice: tuple[float | None, ...]
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    floor: float | None
    """Mean IoU of predicting background everywhere, on the same pixels."""

    @property
    def foreground_iou(self) -> float | None:
        """The mean over the foreground classes; with one, its IoU."""
        return _mean(self.iou[1:])

    @property
    def background_iou(self) -> float | None:
        return self.iou[0]

    @property
    def mean_iou(self) -> float | None:
        """The mean over all classes, background included: the paper's mIoU."""
        return _mean(self.iou)

    def figures(self) -> dict[str, float | None]:
        """The main scores under the names that results and points use."""
        return {
            "foreground_iou": self.foreground_iou,
            "background_iou": self.background_iou,
            "mean_iou": self.mean_iou,
            "floor": self.floor,
            "dice": _mean(self.dice[1:]),
            "precision": _mean(self.precision[1:]),
            "recall": _mean(self.recall[1:]),
        }


def scores(counts: np.ndarray) -> Scores:
    """The scores of `counts`: one matrix (C, C), or (N, C, C), whose images are pooled into one."""
    matrix = counts.reshape(-1, *counts.shape[-2:]).sum(axis=0)
    hit = np.diagonal(matrix)
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    union = true + predicted - hit
    # Predicting background everywhere: background has all pixels as its union, present classes score 0.
    nothing = [_ratio(true[0], matrix.sum())] + [0.0 if t else None for t in true[1:]]
    return Scores(
        iou=tuple(map(_ratio, hit, union)),
        dice=tuple(map(_ratio, 2 * hit, true + predicted)),
        precision=tuple(map(_ratio, hit, predicted)),
        recall=tuple(map(_ratio, hit, true)),
        floor=_mean(nothing),
    )


def per_image(counts: np.ndarray) -> dict[str, float | None]:
    """Means over the N images of `counts` (N, C, C), named as in `Scores.figures` with the suffix `_per_image`.

    An image in which a score cannot be measured is left out of its mean, as in CEM500K's evaluation.
    """
    found = [scores(matrix).figures() for matrix in counts]
    names = [name for name in scores(counts).figures() if name != "floor"]
    return {f"{name}_per_image": _mean([figures[name] for figures in found]) for name in names}


def foreground_ious(matrices: np.ndarray) -> np.ndarray:
    """Foreground IoU (R,) of R matrices (R, C, C) at once, as `Scores.foreground_iou`: for resampling.

    NaN where there is nothing to measure.
    """
    return _mean_known(_ious(matrices)[:, 1:])


def mean_ious(matrices: np.ndarray) -> np.ndarray:
    """Mean IoU (R,) of R matrices (R, C, C) at once, as `Scores.mean_iou`."""
    return _mean_known(_ious(matrices))


def foreground_iou_per_image(counts: np.ndarray) -> list[float | None]:
    """Foreground IoU of each of the N images of `counts` (N, C, C).

    None for an image that has no foreground and where none was predicted: right, but nothing to measure.
    """
    return [scores(matrix).foreground_iou for matrix in counts]


def _ious(matrices: np.ndarray) -> np.ndarray:
    hit = np.diagonal(matrices, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):  # A class that is in neither: 0 / 0 gives NaN, as intended.
        return np.asarray(hit / (matrices.sum(axis=2) + matrices.sum(axis=1) - hit))


def _mean_known(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=1) / known.sum(axis=1))


def _ratio(part: int, whole: int) -> float | None:
    return float(part) / float(whole) if whole else None


def _mean(values: tuple[float | None, ...] | list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
