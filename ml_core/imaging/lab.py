"""Combines grey pictures with the Lab colours from a colorizer to sRGB, in NumPy. Imports no torch.

The same conversion on tensors is in `ml_core.imaging.tensor_lab`.

The constants are those of IEC 61966-2-1 (sRGB) and CIE 15 (Lab), with the rounding that scikit-image uses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GAMMA_KNEE, GAMMA_OFFSET, GAMMA, GAMMA_SLOPE = 0.04045, 0.055, 2.4, 12.92
"""sRGB to linear light: ((v + offset) / (1 + offset)) ** gamma above the knee, v / slope below it."""
LINEAR_KNEE = 0.0031308
"""The same knee in linear light, for the inverse conversion."""
XYZ_OF_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE = (0.95047, 1.0, 1.08883)
KNEE = 0.008856
"""Below it CIE replaces the cube root by a straight line."""
SLOPE, INTERCEPT = 7.787, 16 / 116
"""The slope of that line."""
ZERO = 128
"""The byte that encodes an a or b of 0 in planes of bytes."""
_STRIP = 2**18
"""Pixels per step, to bound the memory of the float intermediates."""


def coloured(grey: NDArray[np.uint8], planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture `grey` (H, W) in the colours `planes` (2, h, w) = ab + 128, as sRGB (H, W, 3)."""
    height, width = grey.shape
    a, b = (_stretched(plane, width=width, height=height) for plane in planes)
    light = _lightness_of_bytes()
    out = np.empty((height, width, 3), np.uint8)
    step = max(1, _STRIP // max(1, width))
    for top in range(0, height, step):
        rows = slice(top, top + step)
        out[rows] = _rgb(light[grey[rows]], a[rows], b[rows])
    return out


def _stretched(plane: NDArray[np.uint8], *, width: int, height: int) -> NDArray[np.float32]:
    """Resizes to the picture's size, whose aspect may differ from that of the square that was colorized."""
    numbers = Image.fromarray(plane.astype(np.float32) - ZERO)
    return np.asarray(numbers.resize((width, height), Image.Resampling.BILINEAR), np.float32)


def _lightness_of_bytes() -> NDArray[np.float32]:
    """L in 0..100 of each grey value 0 to 255, taken as sRGB."""
    grey = np.arange(256) / 255
    linear = np.where(grey > GAMMA_KNEE, ((grey + GAMMA_OFFSET) / (1 + GAMMA_OFFSET)) ** GAMMA, grey / GAMMA_SLOPE)
    root = np.where(linear > KNEE, np.cbrt(linear), SLOPE * linear + INTERCEPT)
    return (116 * root - 16).astype(np.float32)


def _rgb(light: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.uint8]:
    y = (light + 16) / 116
    root = np.stack([y + a / 500, y, np.maximum(y - b / 200, 0)], axis=-1)
    xyz = np.where(root > KNEE ** (1 / 3), root**3, (root - INTERCEPT) / SLOPE) * np.array(WHITE, np.float32)
    linear = xyz @ np.linalg.inv(np.array(XYZ_OF_RGB)).T.astype(np.float32)
    bright = (1 + GAMMA_OFFSET) * np.maximum(linear, 0) ** (1 / GAMMA) - GAMMA_OFFSET
    rgb = np.where(linear > LINEAR_KNEE, bright, GAMMA_SLOPE * linear)
    return np.rint(255 * rgb.clip(0, 1)).astype(np.uint8)
