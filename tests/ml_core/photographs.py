"""Colour photographs of a sort: a network soon learns that what is bright is orange and what is dark is blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_photographs(folder: Path, *, count: int, size: int = 40, grey: int = 0, seed: int = 0) -> Path:
    """Writes NN.png, the last `grey` of them without colour."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    blue, orange = np.array([30.0, 50.0, 130.0]), np.array([240.0, 160.0, 60.0])
    for number in range(count):
        coarse = Image.fromarray(chance.integers(0, 256, (2, 2), np.uint8))
        light = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float64)[..., None] / 255
        pixels = np.where(light > 0.5, orange * (0.6 + 0.4 * light), blue * (0.6 + 0.8 * light))
        pixels = (pixels + chance.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)
        if number >= count - grey:
            pixels = np.repeat(pixels[..., :1], 3, axis=-1)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder
