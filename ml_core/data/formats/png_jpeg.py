"""Reads PNG and JPEG files. Imports no torch."""

from __future__ import annotations

import mmap
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_core.data.formats.image_file import Header, Refused, refusing

STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_FORMATS = ["PNG", "JPEG"]
_CHANNELS = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4}
"""By Pillow's mode. JPEGs for print (CMYK) are refused: their values are amounts of ink."""


LARGE = 2**25
"""From this number of pixels a PNG is unpacked directly into its array: with Pillow three copies would be in memory.
"""


class Picture:
    """One PNG or JPEG file (`ml_core.data.formats.image_file.Source`)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def header(self) -> Header:
        with refusing(), Image.open(self._path, formats=_FORMATS) as picture:
            channels = _CHANNELS.get(picture.mode) or (1 if picture.mode.startswith("I") else 0)
            if not channels:
                raise Refused(
                    f"The picture is in the colour model {picture.mode}.", "Save it as greyscale, 8 or 16 bits."
                )
            return Header(
                format=(picture.format or "").lower(),
                width=picture.width,
                height=picture.height,
                dtype="uint16" if picture.mode.startswith("I") else "uint8",
                channels=channels,
                colour=picture.mode in {"RGB", "RGBA", "P"},
            )

    def pixels(self, page: int, *, mask: bool = False) -> NDArray[np.generic]:
        with refusing(), Image.open(self._path, formats=_FORMATS) as picture:
            if picture.mode == "1":
                return np.asarray(picture.convert("L"))
            if picture.mode == "P":
                return np.asarray(picture if mask and not _grey_palette(picture) else picture.convert("RGB"))
            if _is_plain(picture) and picture.width * picture.height > LARGE:
                return _unpacked(self._path, shape=(picture.height, picture.width))
            pixels = np.asarray(picture)
            if picture.mode == "LA":
                return pixels[..., 0]
            return pixels.astype(np.uint16, copy=False) if picture.mode.startswith("I") else pixels

    def close(self) -> None:
        """Does nothing: no file stays open between calls, as Pillow reads a picture once."""


def _is_plain(picture: Image.Image) -> bool:
    """Whether both libraries read the same pixels from it."""
    return picture.format == "PNG" and picture.mode in ("L", "I;16", "RGB") and "transparency" not in picture.info


def _unpacked(path: Path, *, shape: tuple[int, int]) -> NDArray[np.generic]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as packed:
        try:
            pixels: NDArray[np.generic] = imagecodecs.png_decode(packed)
        except imagecodecs.PngError as error:
            raise ValueError(str(error)) from error
    if pixels.shape[:2] != shape:
        raise ValueError(f"{pixels.shape} and not {shape}")
    return pixels


def _grey_palette(picture: Image.Image) -> bool:
    colours = np.asarray(picture.getpalette("RGB") or [], np.int16).reshape(-1, 3)
    return not np.ptp(colours, axis=1).any() if len(colours) else True
