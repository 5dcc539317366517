"""Large images as pyramids: each level half the size of the one below, kept as arrays that tiles are cut from.

A browser holds no image of 20,000 x 20,000 pixels, and no server should read one anew for every tile. So the first look
at a large image lays its levels down beside the blobs, in the image's own type and in a process of its own; every tile
after that takes milliseconds and next to no memory.
They can be deleted at any time, and are made again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from django.conf import settings
from django.core.files.storage import default_storage
from numpy.typing import NDArray

from ml_core.data.formats.pyramid import TILE, levels_of
from webapp.datasets.models import Dataset, Item

__all__ = ["TILE", "WHOLE_TO", "Pyramid", "in_colour", "is_large", "levels_of", "mask_of", "pyramid_of"]

WHOLE_TO = 8192
"""Longest side of an image that is sent as one picture."""
SECONDS = 300


def is_large(item: Item) -> bool:
    """Whether the image is shown by tiles."""
    return max(item.width, item.height) > WHOLE_TO


def in_colour(item: Item) -> bool:
    """Whether the image is shown in colour."""
    return item.dataset.kind == Dataset.Kind.PHOTOGRAPHS and bool(item.facts.get("colour"))


class Pyramid:
    """The levels of one image, level 0 at full size, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.levels = len(list(folder.glob("*.npy")))

    def level(self, number: int) -> NDArray[np.generic]:
        """One whole level in the image's own type, (H, W) or in colour (H, W, 3). Raises IndexError outside."""
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
        fitting = (n for n in range(self.levels) if max(self.level(n).shape[:2]) <= longest)
        return self.level(next(fitting, self.levels - 1))


def pyramid_of(item: Item) -> Pyramid:
    """The item's pyramid, made now if nobody has looked at it before. Others that ask meanwhile wait.

    Raises FileNotFoundError where the image is missing from the storage.
    """
    what = "colour" if in_colour(item) else "grey"
    name = f"{item.image}-{item.page}{'-colour' * (what == 'colour')}"
    return Pyramid(_made(name, item.image, page=item.page, what=what))


def mask_of(item: Item, layer: str, *, factor: int) -> NDArray[np.uint8]:
    """Every `factor`-th class value of a mask of a large image; kept as its pyramid is. Raises FileNotFoundError."""
    ref = item.masks[layer]
    name = f"{ref['sha256']}-{ref['page']}-mask-{factor}"
    folder = _made(name, ref["sha256"], page=ref["page"], what="mask", factor=factor)
    return np.asarray(Pyramid(folder).level(0), np.uint8)


def _made(name: str, sha256: str, *, page: int, what: str, factor: int = 1) -> Path:
    root = Path(settings.DATA) / "pyramids"
    folder = root / name
    if not folder.exists():
        image = Path(default_storage.path(sha256))
        image.stat()  # raises what the caller expects where it is missing
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{name}.lock"):
            if not folder.exists():
                _build(folder, [str(image), str(page), what, str(factor)])
    return folder


def _build(folder: Path, asked: list[str]) -> None:
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    image, page, *rest = asked
    command = [sys.executable, "-m", "ml_core.data.formats.pyramid", image, page, str(temporary), *rest]
    try:
        # A folder without its last level is never taken for a pyramid: it gets its name when it is whole.
        said = subprocess.run(command, cwd=settings.ROOT, capture_output=True, timeout=SECONDS, check=False)
        if said.returncode:
            raise OSError(f"{image} could not be written as tiles: {said.stderr.decode(errors='replace')[-500:]}")
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
