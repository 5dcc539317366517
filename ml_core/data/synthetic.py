"""Draws synthetic electron micrographs of brain tissue with exact masks, for the demo, tests and benchmarks.

A picture shows cells with membranes, mitochondria with a double membrane and cristae, clusters of vesicles, dark
lysosomes and pale tubes that are no mitochondria, grainy cytoplasm, uneven illumination and the noise of a detector.
The same seed gives the same picture. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]
"""(H, W) of floats."""

CELL_PIXELS = 110
"""Mean distance between the centres of two cells."""
MITOCHONDRIA_PER_CELL = 1.7
PIXEL_SIZE_NM = 8.0
"""Nanometres per pixel of the drawn sizes: a mitochondrion is about 40 x 65 px, 320 x 520 nm."""


@dataclass(frozen=True)
class _Cell:
    """Per pixel: `border` is the distance to the nearest membrane, `owner` the number of the cell that contains it."""

    owner: NDArray[np.intp]
    border: Field


def micrograph(seed: int, *, size: int = 256) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.uint8]]]:
    """One picture (size, size) uint8 and its masks (size, size), 0 or 255: `mitochondria` and `membranes`."""
    rng = np.random.default_rng((seed, 8))
    cells = _cells(rng, size=size)
    shade = rng.normal(0, 7, cells.owner.max() + 1).astype(np.float32)
    image = 168 + shade[cells.owner] + 9 * _grain(rng, size=size, wave=5) + 6 * _grain(rng, size=size, wave=18)
    image -= 34 * np.clip(_grain(rng, size=size, wave=3.4) - 1.35, 0, 1)  # ribosomes
    free = cells.border > 5
    _draw_tubes(image, free, rng=rng)
    mitochondria = np.zeros((size, size), bool)
    for _ in range(round(rng.normal(MITOCHONDRIA_PER_CELL, 0.25) * (size / CELL_PIXELS) ** 2) + 1):
        _draw_mitochondrion(image, mitochondria, free, cells=cells, rng=rng)
    _draw_lysosomes(image, free, rng=rng)
    _draw_vesicles(image, free, cells=cells, rng=rng)
    membranes = cells.border < 2.6
    _draw_membranes(image, cells.border, rng=rng)
    return _photographed(image, rng=rng), {
        "mitochondria": mitochondria.astype(np.uint8) * np.uint8(255),
        "membranes": membranes.astype(np.uint8) * np.uint8(255),
    }


def write_folder(
    folder: Path, *, count: int, size: int = 256, seed: int = 0, layers: tuple[str, ...] = ("mitochondria",)
) -> Path:
    """Writes `images/micrograph_1.png` ... and `masks_<layer>/` beside it; returns `folder`."""
    for name in ("images", *(f"masks_{layer}" for layer in layers)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        image, masks = micrograph(seed * 1_000_003 + number, size=size)
        Image.fromarray(image).save(folder / "images" / f"micrograph_{number}.png")
        for layer in layers:
            Image.fromarray(masks[layer]).save(folder / f"masks_{layer}" / f"micrograph_{number}.png")
    return folder


def _cells(rng: np.random.Generator, *, size: int) -> _Cell:
    """Cells as the regions nearest to scattered centres, their borders bent by smooth noise."""
    step = CELL_PIXELS
    count = size // step + 3
    grid = (np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2) - 0.8) * step
    centres = (grid + rng.uniform(-0.42, 0.42, grid.shape) * step + rng.uniform(0, step, 2) * 0.5).astype(np.float32)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    y = y + 11 * _grain(rng, size=size, wave=70) + 2.5 * _grain(rng, size=size, wave=24)
    x = x + 11 * _grain(rng, size=size, wave=70) + 2.5 * _grain(rng, size=size, wave=24)
    first = np.full((size, size), np.inf, np.float32)
    second = first.copy()
    owner = np.zeros((size, size), np.intp)
    for number, (cy, cx) in enumerate(centres):
        squared = (y - cy) ** 2 + (x - cx) ** 2
        owner[squared < first] = number
        second = np.minimum(second, np.maximum(first, squared))
        first = np.minimum(first, squared)
    # Half the difference is the distance to the border on the line between two centres.
    return _Cell(owner, np.asarray((np.sqrt(second) - np.sqrt(first)) / 2, np.float32))


def _draw_membranes(image: Field, border: Field, *, rng: np.random.Generator) -> None:
    """Two dark sheets with a pale cleft; where the cut is oblique they blur, as they do in real sections."""
    size = image.shape[0]
    oblique = np.clip(_grain(rng, size=size, wave=60), 0, 1.4)
    width = 1.15 + 1.6 * oblique
    dark = np.exp(-(((border - 2.1) / width) ** 2))
    image -= (92 - 38 * oblique) * dark
    image += 14 * np.exp(-((border / 0.9) ** 2)) * (1 - np.clip(oblique, 0, 1))


def _draw_mitochondrion(
    image: Field, mitochondria: NDArray[np.bool_], free: NDArray[np.bool_], *, cells: _Cell, rng: np.random.Generator
) -> None:
    """Draws one where a cell has enough space and marks the area as occupied; without space, draws none."""
    size = image.shape[0]
    for _ in range(25):
        cy, cx = rng.uniform(-6, size + 6, 2)
        at = int(np.clip(cy, 0, size - 1)), int(np.clip(cx, 0, size - 1))
        room = float(cells.border[at])
        if room < 12 or not free[at]:
            continue
        short = min(rng.uniform(9, 22), room * 0.82)
        long = short * rng.uniform(1.05, 2.3)
        window, y, x = _window(size, cy=cy, cx=cx, radius=long * 1.35 + 6)
        angle = rng.uniform(0, np.pi)
        along, across = _turned(y - cy, x - cx, angle)
        across = across + rng.uniform(-0.2, 0.2) * along**2 / long  # bent
        rho = np.hypot(along / long, across / short)
        theta = np.arctan2(across / short, along / long)
        for wave in (2, 3, 4):
            rho = rho * (1 + rng.normal(0, 0.06 / wave) * np.cos(wave * theta + rng.uniform(0, 2 * np.pi)))
        depth = (1 - rho) * short  # roughly the distance to the outer membrane, in pixels
        body = depth >= 0
        if body.sum() < 120 or not free[window][depth > -3].all():
            continue
        image[window] += _mitochondrion(image[window], depth, along, across, rng=rng)
        mitochondria[window] |= body
        free[window] &= depth < -4
        return


def _mitochondrion(under: Field, depth: Field, along: Field, across: Field, *, rng: np.random.Generator) -> Field:
    """The values to add to the picture: matrix, cristae as thin dark folds with pale lumen, and two membranes."""
    matrix = rng.uniform(104, 128)
    body = _ramp(depth, 0, 1.2)
    tilt = rng.normal(0, 0.25)
    size = depth.shape
    bend = 2.2 * _grain_like(rng, size, wave=22)
    spacing = rng.uniform(6.5, 9.5)
    fold = np.abs(((along * np.cos(tilt) + across * np.sin(tilt) + bend) / spacing + rng.uniform()) % 1 - 0.5) * spacing
    # A crista reaches from one side into the matrix and ends there.
    reach = _ramp(depth, 3.2, 4.6) * _ramp(0.55 + 0.75 * _grain_like(rng, size, wave=15), 0, 0.35)
    texture = 5 * _grain_like(rng, size, wave=4)
    inside = matrix + texture + reach * (44 * np.exp(-((fold / 0.85) ** 2)) - 40 * np.exp(-(((fold - 1.9) / 0.8) ** 2)))
    change = body * (inside - under)
    change -= 72 * np.exp(-(((depth - 0.9) / 1.05) ** 2))
    change += 40 * np.exp(-(((depth - 2.6) / 0.75) ** 2)) * body
    change -= 46 * np.exp(-(((depth - 4.2) / 0.9) ** 2)) * body
    return change.astype(np.float32)


def _draw_lysosomes(image: Field, free: NDArray[np.bool_], *, rng: np.random.Generator) -> None:
    """Draws dark round bodies without folds: as dark as mitochondria, but not among them."""
    size = image.shape[0]
    for _ in range(rng.poisson(2.2 * (size / 256) ** 2)):
        cy, cx = rng.uniform(0, size, 2)
        radius = rng.uniform(5, 11)
        window, y, x = _window(size, cy=cy, cx=cx, radius=radius + 4)
        depth = radius - np.hypot(y - cy, x - cx) * (1 + 0.12 * _grain_like(rng, y.shape, wave=12))
        if not free[window][depth > -3].all():
            continue
        tone = rng.uniform(62, 92) + 10 * _grain_like(rng, y.shape, wave=5)
        image[window] += _ramp(depth, -0.6, 1.2) * (tone - image[window])
        free[window] &= depth < -2


def _draw_vesicles(image: Field, free: NDArray[np.bool_], *, cells: _Cell, rng: np.random.Generator) -> None:
    """Small rings, most of them crowded where a synapse might be, some scattered."""
    size = image.shape[0]
    places = rng.uniform(0, size, (round(26 * (size / 256) ** 2), 2))
    for _ in range(rng.poisson(3.2 * (size / 256) ** 2)):
        cluster = rng.normal(rng.uniform(0, size, 2), rng.uniform(10, 17), (rng.integers(40, 90), 2))
        places = np.concatenate([places, cluster])
    for cy, cx in places:
        if not (0 <= cy < size and 0 <= cx < size and free[int(cy), int(cx)]):
            continue
        radius = rng.uniform(2.3, 3.3)
        window, y, x = _window(size, cy=cy, cx=cx, radius=radius + 3)
        if not free[window].all():
            continue
        distance = np.hypot(y - cy, x - cx)
        image[window] -= 56 * np.exp(-(((distance - radius) / 0.9) ** 2))
        image[window] += 16 * np.exp(-((distance / 1.3) ** 2))
        free[window] &= distance > radius + 1


def _draw_tubes(image: Field, free: NDArray[np.bool_], *, rng: np.random.Generator) -> None:
    """Endoplasmic reticulum: pale winding tubes with dark walls, along the contour lines of smooth noise."""
    field = _grain(rng, size=image.shape[0], wave=42)
    where = _ramp(_grain(rng, size=image.shape[0], wave=55), 0.25, 0.7) * free
    distance = np.abs(field) * 11
    image += where * (18 * np.exp(-((distance / 1.0) ** 2)) - 46 * np.exp(-(((distance - 2.2) / 0.9) ** 2)))


def _photographed(image: Field, *, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Simulates the microscope: slight blur, uneven illumination, random contrast, shot noise and camera noise."""
    size = image.shape[0]
    spread = rng.uniform(0.55, 0.85)
    taken: NDArray[np.floating[Any]] = _filtered(image, lambda k: np.exp(-0.5 * (2 * np.pi * k * spread) ** 2))
    y, x = (np.mgrid[:size, :size].astype(np.float32) / size - 0.5) * 2
    slope = rng.normal(0, 7, 2)
    taken = taken + slope[0] * y + slope[1] * x - rng.uniform(0, 12) * (x**2 + y**2)
    taken = (taken - 140) * rng.uniform(0.85, 1.15) + 140 + rng.normal(0, 6)
    noise = rng.standard_normal(image.shape, np.float32)
    taken = taken + noise * (3.5 + 0.35 * np.sqrt(np.clip(taken, 0, None)))
    return np.clip(np.rint(taken), 0, 255).astype(np.uint8)


def _window(size: int, *, cy: float, cx: float, radius: float) -> tuple[tuple[slice, slice], Field, Field]:
    """The slices of the picture around an object, and its pixels' rows and columns, so that drawing stays cheap."""
    top, left = max(0, int(cy - radius)), max(0, int(cx - radius))
    bottom, right = min(size, int(cy + radius) + 2), min(size, int(cx + radius) + 2)
    y, x = np.mgrid[top : max(top + 1, bottom), left : max(left + 1, right)].astype(np.float32)
    return (slice(top, max(top + 1, bottom)), slice(left, max(left + 1, right))), y, x


def _turned(y: Field, x: Field, angle: float) -> tuple[Field, Field]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _ramp(x: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _grain(rng: np.random.Generator, *, size: int, wave: float) -> Field:
    """Noise of deviation 1 whose features are about `wave` pixels apart."""
    return _grain_like(rng, (size, size), wave=wave)


def _grain_like(rng: np.random.Generator, shape: tuple[int, ...], *, wave: float) -> Field:
    noise = rng.standard_normal(shape, np.float32)
    smooth = _filtered(noise, lambda k: np.exp(-0.5 * (k * wave * 1.4) ** 2) * (k > 0))
    return np.asarray(smooth / max(float(smooth.std()), 1e-6), np.float32)


def _filtered(image: Field, response: Callable[[Field], Field]) -> Field:
    """Filters by the response to `k`, in periods per pixel. The picture wraps around, which is invisible in noise."""
    height, width = image.shape
    k = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]).astype(np.float32)
    return np.asarray(np.fft.irfft2(np.fft.rfft2(image) * response(k), s=image.shape), np.float32)
