"""Selects and counts the values of masks. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def only_value(mask: NDArray[np.uint8], value: int) -> NDArray[np.uint8]:
    """A copy of a mask (H, W) that keeps only this value; the rest becomes 0."""
    return np.where(mask == value, mask, np.uint8(0))


def value_counts(mask: NDArray[np.uint8]) -> dict[str, int]:
    """How many pixels of a mask (H, W) hold each value."""
    flat, counts = mask.reshape(-1), np.zeros(256, np.int64)
    for start in range(0, flat.size, 2**21):  # bincount converts each pixel to eight bytes
        counts += np.bincount(flat[start : start + 2**21], minlength=256)
    return {str(value): int(counts[value]) for value in np.flatnonzero(counts)}
