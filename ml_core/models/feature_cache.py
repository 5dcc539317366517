"""Caches a frozen encoder's feature maps of each training image, so that each is computed once.

Rotations by arbitrary angles never repeat and cannot be cached. So images are used in 16 forms instead: rotated by
quarter turns, mirrored or not, blurred or not. That is less varied than the paper's augmentation, but the features of
a form are always the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml_core.data.loading.augmentation import BLUR_SHARE
from ml_core.data.loading.segmentation_data import SegmentationData
from ml_core.imaging.tensor_blur import gaussian_blur
from ml_core.models.unet import CASSER, Segmenter

FORMS = 16
BLUR = 0.8
"""The standard deviation of the blur, in pixels."""

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


class FeatureCache:
    """Batches of an encoder's maps, each computed when it is first needed and kept on the device.

    In bfloat16 they are kept as computed, else as float16, which rounds them to 3 digits. A map is always computed by
    itself, never in a batch with others: sums in another order would differ in their last bits, and a resumed run must
    give the same results.
    """

    def __init__(self, segmenter: Segmenter, data: SegmentationData, *, autocast: Autocast) -> None:
        assert segmenter.frozen, "features of an encoder that learns change at every step"
        self._segmenter, self._data, self._autocast = segmenter, data, autocast
        self._kept: dict[tuple[int, int], list[Tensor]] = {}
        # The library's decoders do not use these first maps; Casser's uses all.
        self._unused = 0 if segmenter.architecture == CASSER else 2 if segmenter.decoder == "fpn" else 1

    def most_bytes(self) -> int:
        """The bytes that all forms of all training images take."""
        blank = torch.zeros(1, 1, self._data.size, self._data.size, device=self._segmenter.mean.device)
        return sum(kept.nbytes for kept in self._found(blank)) * self._data.samples * FORMS

    def batch(self, samples: NDArray[np.int64]) -> tuple[list[Tensor], Tensor]:
        """The maps of an epoch's samples (each (B, C, h, w)), in random forms, and their classes (B, size, size)."""
        grey, truth = self._data.batch(samples)
        turns = torch.randint(FORMS // 2, (len(samples),)).tolist()
        blurred = (torch.rand(len(samples)) < BLUR_SHARE).tolist()
        forms = [turn + 8 * blur for turn, blur in zip(turns, blurred, strict=True)]
        each = [
            self._maps(sample, image[None], form=form)
            for sample, image, form in zip(samples.tolist(), grey, forms, strict=True)
        ]
        maps = [torch.cat(level) for level in zip(*each, strict=True)]
        if maps[0].dtype == torch.float16:
            maps = [level.float() for level in maps]
        side = self._data.size
        # Placeholders for the maps of which the decoder uses only the size.
        unused = [maps[0].new_zeros(1).expand(len(samples), 1, side >> n, side >> n) for n in range(self._unused)]
        turned = torch.cat([_turned(mask[None, None], form) for mask, form in zip(truth, forms, strict=True)])
        return [*unused, *maps], turned[:, 0]

    def _maps(self, sample: int, image: Tensor, *, form: int) -> list[Tensor]:
        kept = self._kept.get((sample, form))
        if kept is None:
            image = _turned(image, form)
            image = gaussian_blur(image, sigma=BLUR, radius=round(3 * BLUR)) if form >= 8 else image
            kept = self._kept[sample, form] = self._found(image)
        return kept

    def _found(self, image: Tensor) -> list[Tensor]:
        with torch.no_grad(), self._autocast():
            maps = self._segmenter.encode(image)[self._unused :]
        return [level if level.dtype == torch.bfloat16 else level.half() for level in maps]


def _turned(x: Tensor, form: int) -> Tensor:
    """(B, C, H, W), H = W, in one of 8 positions: turned by quarters, then mirrored from the fourth on."""
    x = torch.rot90(x, form % 4, (2, 3))
    return (x.flip(3) if form % 8 >= 4 else x).contiguous()
