"""Pictures that a network learns in a few steps: bright disks on dark noise, with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_disks(
    folder: Path, *, sizes: Sequence[tuple[int, int]], values: Sequence[int] = (255,), seed: int = 0
) -> Path:
    """Writes images/NN.png of the given (H, W) and masks/NN.png: one disk per value, the brighter the later."""
    chance = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (height, width) in enumerate(sizes):
        image = chance.integers(20, 70, (height, width))
        mask = np.zeros((height, width), np.uint8)
        y, x = np.mgrid[:height, :width]
        for order, value in enumerate(values, start=1):
            middle = chance.uniform(0.3, 0.7, 2) * (height, width)
            inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < (min(height, width) / 5) ** 2
            image[inside] += 40 + 130 * order // len(values)
            mask[inside] = value
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{number:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:02d}.png")
    return folder
