"""Pictures of classes that grey values cannot tell apart: stripes of two directions and checks, with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("checks", "lying", "standing")


def texture(name: str, *, side: int, noise: float, chance: np.random.Generator) -> np.ndarray:
    """One picture (side, side) uint8; mean and variance are about the same for all of CLASSES."""
    y, x = np.mgrid[:side, :side]
    period = chance.uniform(5, 9)
    shift = chance.uniform(0, period, 2)
    rows, columns = (np.sign(np.sin(2 * np.pi * (a + s) / period)) for a, s in zip((y, x), shift, strict=True))
    pattern = {"lying": rows, "standing": columns, "checks": rows * columns}[name]
    grey = 128 + 40 * pattern + chance.normal(0, noise, (side, side)) + chance.normal(0, 4)
    return grey.clip(0, 255).astype(np.uint8)


def write_textures(folder: Path, *, each: int, side: int = 64, noise: float = 25, seed: int = 0) -> Path:
    """Writes <class>/<nn>.png, `each` of them for each class; `noise` is its deviation, the pattern's is 40."""
    chance = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            Image.fromarray(texture(name, side=side, noise=noise, chance=chance)).save(
                folder / name / f"{number:02d}.png"
            )
    return folder


def write_tones(folder: Path, *, each: int, side: int = 64, seed: int = 0) -> Path:
    """As above, but all are noise, and the classes `dark` and `bright` differ in their mean alone."""
    chance = np.random.default_rng(seed)
    for name, mean in (("dark", 90), ("bright", 160)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            grey = chance.normal(mean, 30, (side, side)).clip(0, 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / name / f"{number:02d}.png")
    return folder
