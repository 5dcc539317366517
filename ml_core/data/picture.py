"""PNG and JPEG files. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_core.data.formats import Header, Refused, refusing

STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_FORMATS = ["PNG", "JPEG"]
_CHANNELS = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4}
"""By mode. JPEGs for print (CMYK) are refused: their greys are those of inks."""


class Picture:
    """One PNG or JPEG file (`ml_core.data.formats.Source`)."""

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
            pixels = np.asarray(picture)
            if picture.mode == "LA":
                return pixels[..., 0]
            return pixels.astype(np.uint16, copy=False) if picture.mode.startswith("I") else pixels

    def close(self) -> None:
        """Nothing stays open between two calls: Pillow reads a picture once."""


def _grey_palette(picture: Image.Image) -> bool:
    colours = np.asarray(picture.getpalette("RGB") or [], np.int16).reshape(-1, 3)
    return not np.ptp(colours, axis=1).any() if len(colours) else True
