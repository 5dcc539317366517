"""Large images as pyramids: each level half the size of the one below, kept as arrays that tiles are cut from.

A browser holds no image of 20,000 x 20,000 pixels, and no server should read one anew for every tile. So the first look
at a large image lays its levels down beside the blobs, in the image's own type; every tile after that takes
milliseconds.
They can be deleted at any time, and are made again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from django.conf import settings
from django.core.files.storage import default_storage
from numpy.typing import NDArray

from ml_core.data import readers
from webapp.datasets.models import Item

TILE = 512
WHOLE_TO = 8192
"""Longest side of an image that is sent as one picture."""
STRIP = 1024
"""Rows that are halved at a time, so that memory stays flat."""


def is_large(item: Item) -> bool:
    """Whether the image is shown by tiles."""
    return max(item.width, item.height) > WHOLE_TO


def levels_of(width: int, height: int) -> int:
    """How many levels the pyramid has; the last one fits into a tile."""
    levels, longest = 1, max(width, height)
    while longest > TILE:
        longest = -(-longest // 2)
        levels += 1
    return levels


class Pyramid:
    """The levels of one image, level 0 at full size, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.levels = len(list(folder.glob("*.npy")))

    def level(self, number: int) -> NDArray[np.generic]:
        """One whole level, (H, W) in the image's own type. Raises IndexError where there is none of that number."""
        if not 0 <= number < self.levels:
            raise IndexError(number)
        mapped: NDArray[np.generic] = np.load(self._folder / f"{number}.npy", mmap_mode="r", allow_pickle=False)
        return mapped

    def tile(self, number: int, column: int, row: int) -> NDArray[np.generic]:
        """A square of a level, smaller at its right and lower border. Raises IndexError outside."""
        pixels = self.level(number)[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
        if not pixels.size:
            raise IndexError((number, column, row))
        return pixels

    def within(self, longest: int) -> NDArray[np.generic]:
        """The largest level whose sides are at most `longest`, else the smallest there is."""
        fitting = (n for n in range(self.levels) if max(self.level(n).shape) <= longest)
        return self.level(next(fitting, self.levels - 1))


def pyramid_of(item: Item) -> Pyramid:
    """The item's pyramid, made now if nobody has looked at it before. Others that ask meanwhile wait.

    Raises FileNotFoundError where the image is missing from the storage.
    """
    root = Path(settings.DATA) / "pyramids"
    folder = root / f"{item.image}-{item.page}"
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{folder.name}.lock"):
            if not folder.exists():
                _build(item, folder)
    return Pyramid(folder)


def _build(item: Item, folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        # No fsync: what a power cut spoils is made again, and a folder without its last level is never taken for one.
        pixels = readers.read(Path(default_storage.path(item.image)), page=item.page)
        np.save(temporary / "0.npy", pixels)
        for number in range(1, levels_of(item.width, item.height)):
            pixels = _halved(pixels, temporary / f"{number}.npy")
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _halved(pixels: NDArray[np.generic], path: Path) -> NDArray[np.generic]:
    """Means of 2 x 2 pixels, written to `path` and mapped from there; a last odd row or column stands for itself."""
    height, width = pixels.shape
    shape = (-(-height // 2), -(-width // 2))
    small = np.lib.format.open_memmap(path, mode="w+", dtype=pixels.dtype, shape=shape)
    for top in range(0, height, STRIP):
        strip = np.asarray(pixels[top : top + STRIP], np.float32)
        strip = np.pad(strip, ((0, strip.shape[0] % 2), (0, width % 2)), mode="edge")
        means = (strip[0::2, 0::2] + strip[0::2, 1::2] + strip[1::2, 0::2] + strip[1::2, 1::2]) / 4
        small[top // 2 : top // 2 + len(means)] = np.rint(means) if pixels.dtype.kind in "ui" else means
    return small


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
