"""Loads pairs of views of a dataset's micrographs for BYOL: from prepared arrays to normalised batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ml_core.data.loading import byol_views
from ml_core.data.loading.device_array import DeviceArray
from ml_core.imaging.tensor_lab import lab_to_rgb
from ml_core.specs import PretrainSpec

TONE_SAMPLE = 2000
"""Number of images, spread over the dataset, for mean and deviation; more do not change the third digit."""


class Pairs:
    """Two views of each micrograph, by the policy of the specification.

    `images` (N, S, S) uint8, S at least `source_size`; `ab` (N, 2, h, w) uint8 = ab + 128, needed by the policies
    with colour. `mean` and `deviation`, one per channel, are those of the grey values in 0..1; they hold for both
    views, so that a difference in tone between the views is not normalised away.
    """

    def __init__(
        self, images: NDArray[np.uint8], *, ab: Tensor | None, spec: PretrainSpec, device: torch.device
    ) -> None:
        assert (ab is not None) == spec.views.startswith("colour"), "colour planes go with the views that show colour"
        self._spec = spec
        self._images = DeviceArray(images, device=device)
        self._ab = None if ab is None else DeviceArray(ab, device=device)
        mean, deviation = mean_and_deviation(images)
        self.mean = (mean,) * 3
        self.deviation = (deviation,) * 3

    def __len__(self) -> int:
        return len(self._images)

    def views(self, positions: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Two views of the images at `positions` (B,), each (B, 3, size, size) in 0..1 on the device."""
        size = self._spec.image_size
        grey = self._images.batch(positions)
        if self._ab is None:
            return byol_views.augmented_pair(grey, size=size)
        ab, colour_space = self._ab.batch(positions), self._spec.colour_space
        if self._spec.views == "colour":
            return byol_views.grey_and_colour(grey, ab, colour_space=colour_space)
        return byol_views.cropped_grey_and_colour(grey, ab, size=size, colour_space=colour_space)

    def whole(self, positions: NDArray[np.int64]) -> Tensor:
        """The images at `positions` without augmentation, as network input: whole, grey, (B, 3, size, size)."""
        grey = self._images.batch(positions)[:, None].float() / 255
        grey = functional.avg_pool2d(grey, grey.shape[-1] // self._spec.image_size)
        return self.normalised(grey.expand(-1, 3, -1, -1))

    def normalised(self, view: Tensor) -> Tensor:
        """A view as network input: (x - mean) / deviation, channels last in memory."""
        x = byol_views.normalised(view, mean=self.mean, deviation=self.deviation)
        return x.contiguous(memory_format=torch.channels_last)

    def pictures(self, view: Tensor, *, second: bool) -> Sequence[NDArray[np.uint8]]:
        """Converts a view (B, 3, H, W) to RGB pictures (H, W, 3) for display; a Lab view is converted to sRGB."""
        view = view.float().cpu()
        if second and self._ab is not None and self._spec.colour_space == "lab":
            scale, shift = view.new_tensor([100, 255, 255]), view.new_tensor([0, 128, 128])
            view = lab_to_rgb(view * scale.view(3, 1, 1) - shift.view(3, 1, 1))
        return list((view.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy())


def source_size(spec: PretrainSpec) -> int:
    """The side of the square arrays that the views are cut from, in pixels."""
    return spec.image_size if spec.views == "colour" else spec.image_size * byol_views.CROP_MARGIN


def mean_and_deviation(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and deviation of the grey values in 0..1 over at most TONE_SAMPLE images (N, H, W), evenly spread.

    A dataset without any contrast gets the deviation of one grey level, to avoid division by 0.
    """
    chosen = images[np.linspace(0, len(images) - 1, min(len(images), TONE_SAMPLE)).round().astype(np.int64)]
    counts = np.bincount(chosen.reshape(-1), minlength=256)
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    return round(mean, 6), round(max(variance**0.5, 1 / 255), 6)
