"""Builds an image pyramid: `.npy` files of which each is half the size of the one before. Imports no torch.

Run as a program of its own, so that the web server that needs a pyramid spends no memory on building it:
`python -m ml_core.data.formats.pyramid IMAGE PAGE FOLDER grey 1`.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_core.data.formats import readers
from ml_core.data.formats.decoder import MEMORY
from ml_core.data.formats.image_file import Refused

TILE = 512
"""Pixels of a tile's side; the smallest level fits into one."""
STRIP = 1024
"""Rows that are halved at a time, so that memory stays flat."""


def levels_of(width: int, height: int) -> int:
    """How many levels there are; the last one fits into a tile."""
    levels, longest = 1, max(width, height)
    while longest > TILE:
        longest = -(-longest // 2)
        levels += 1
    return levels


def build_pyramid(image: Path, *, page: int, folder: Path, what: str, factor: int = 1) -> None:
    """Writes `0.npy`, `1.npy`, ... into `folder`: level 0 is the page itself, in its own type. Raises Refused.

    `what` is `grey` (H, W), `colour` (H, W, 3), or `mask`: for a mask every `factor`-th value and no further level,
    as class values have no mean.
    """
    if what == "mask":
        np.save(folder / "0.npy", readers.read_mask(image, page=page)[::factor, ::factor])
        return
    pixels = readers.read_colour(image, page=page) if what == "colour" else readers.read(image, page=page)
    # No fsync: a pyramid that a power cut damaged is built again.
    np.save(folder / "0.npy", pixels)
    for number in range(1, levels_of(pixels.shape[1], pixels.shape[0])):
        pixels = halved(pixels, folder / f"{number}.npy")


def halved(pixels: NDArray[np.generic], path: Path) -> NDArray[np.generic]:
    """Means of 2 x 2 pixels, written to `path` and memory-mapped; a last odd row or column is kept as it is."""
    height, width, *rest = pixels.shape
    shape = (-(-height // 2), -(-width // 2), *rest)
    small = np.lib.format.open_memmap(path, mode="w+", dtype=pixels.dtype, shape=shape)
    for top in range(0, height, STRIP):
        strip = np.asarray(pixels[top : top + STRIP], np.float32)
        odd = ((0, strip.shape[0] % 2), (0, width % 2), *[(0, 0)] * len(rest))
        strip = np.pad(strip, odd, mode="edge")
        means = (strip[0::2, 0::2] + strip[0::2, 1::2] + strip[1::2, 0::2] + strip[1::2, 1::2]) / 4
        small[top // 2 : top // 2 + len(means)] = np.rint(means) if pixels.dtype.kind in "ui" else means
    return small


def _main(image: str, page: str, folder: str, what: str, factor: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        build_pyramid(Path(image), page=int(page), folder=Path(folder), what=what, factor=int(factor))
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:6]))
