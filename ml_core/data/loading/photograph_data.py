"""Loads colour photographs for the training of a colorizer, as batches in Lab on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml_core.data.loading.device_array import DeviceArray
from ml_core.imaging.tensor_lab import rgb_to_lab

LEAST_DIFFERENCE = 16
"""A photograph has colour where the channels of some pixel differ by more than this, of 255; noise is less."""


class Photographs:
    """sRGB photographs (N, size, size, 3) uint8, which may be memory-mapped; positions are those in the array."""

    def __init__(self, array: NDArray[np.uint8], *, device: torch.device) -> None:
        self._array = array
        self._feed = DeviceArray(array, device=device)
        self._device = device

    @property
    def size(self) -> int:
        return int(self._array.shape[1])

    def picture(self, position: int) -> NDArray[np.uint8]:
        """The photograph, (size, size, 3)."""
        return np.array(self._array[position])

    def whole(self, positions: NDArray[np.int64]) -> Tensor:
        """The photographs as Lab (B, 3, size, size) on the device."""
        return _lab(self._feed.batch(positions))

    def crops(self, positions: NDArray[np.int64], *, size: int) -> Tensor:
        """A random square of each photograph, mirrored or not, as Lab (B, 3, size, size) on the device.

        Pixels are not interpolated. All random numbers come from the device's global generator.
        """
        photographs = self._feed.batch(positions)
        count, room = len(positions), self.size - size + 1
        corner = torch.randint(0, room, (2, count, 1), device=self._device)
        rows, columns = corner + torch.arange(size, device=self._device)  # each (B, size)
        mirrored = torch.rand(count, 1, device=self._device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
        sample = torch.arange(count, device=self._device)[:, None, None]
        return _lab(photographs[sample, rows[:, :, None], columns[:, None, :]])


def with_colour(array: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which photographs (N, H, W, 3) have any colour, (N,): checks every other pixel along each side."""
    return np.array([_spread(photograph[::2, ::2]) > LEAST_DIFFERENCE for photograph in array], np.bool_)


def listed(names: Sequence[str], *, most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _spread(pixels: NDArray[np.uint8]) -> int:
    """The greatest difference between the channels of a pixel."""
    return int((pixels.max(axis=2) - pixels.min(axis=2)).max())


def _lab(photographs: Tensor) -> Tensor:
    """Converts sRGB (B, H, W, 3) uint8 to Lab (B, 3, H, W)."""
    return rgb_to_lab(photographs.permute(0, 3, 1, 2).float() / 255)
