"""Reads PNG, JPEG, TIFF, MRC and `.npy` files as grey micrographs or as masks. Imports no torch.

The header is read and validated before any pixel is decoded. A file that is not accepted raises Refused with the
reason and a remedy; nothing is skipped silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_core.data.formats import mrc, npy, png_jpeg, tiff
from ml_core.data.formats.image_file import MAX_PIXELS, Header, Refused, Source, refusing, validated
from ml_core.imaging.windowing import lightness, window, windowed

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Header",
    "Refused",
    "inspect",
    "is_colour",
    "opened",
    "read",
    "read_colour",
    "read_mask",
    "window",
    "window_of",
    "windowed",
]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy"}) | mrc.SUFFIXES

_EXPORTS = {
    ".dm3": "Gatan DM3",
    ".dm4": "Gatan DM4",
    ".czi": "Zeiss CZI",
    ".nd2": "Nikon ND2",
    ".lif": "Leica LIF",
    ".oib": "Olympus OIB",
    ".oif": "Olympus OIF",
    ".vsi": "Olympus VSI",
    ".ser": "FEI SER",
    ".emi": "FEI EMI",
    ".eer": "EER",
    ".emd": "EMD",
    ".h5": "HDF5",
    ".hdf": "HDF5",
    ".hdf5": "HDF5",
    ".ims": "Imaris",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".dcm": "DICOM",
    ".spi": "SPIDER",
    ".raw": "Raw",
}
"""Formats that are not read here, but that Fiji opens with Bio-Formats or a plugin."""
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR"}
_PICTURES = {".gif", ".bmp", ".webp", ".svg", ".jp2", ".avif", ".heic"}
SAMPLED = 4_000_000
"""Number of pixels from which a window is computed."""


class Opened:
    """An open file whose header has been validated. Not thread-safe."""

    def __init__(self, source: Source, *, size: int) -> None:
        self._source = source
        self._size = size

    @cached_property
    def header(self) -> Header:
        """The validated header. Raises Refused where the file is not accepted."""
        with refusing():  # in a damaged header a number may be a list
            return validated(self._source.header(), size=self._size)

    def pixels(self, page: int = 0) -> NDArray[np.generic]:
        """One page as stored, (H, W) or (H, W, C). Raises Refused."""
        return self._source.pixels(page)

    def grey(self, page: int = 0) -> NDArray[np.generic]:
        """One page as (H, W) in the file's own type, colour reduced to lightness. Raises Refused."""
        pixels = self._source.pixels(page)
        return lightness(pixels) if pixels.ndim == 3 else pixels

    def mask(self, page: int = 0) -> NDArray[np.uint8]:
        """One page as class values, (H, W) uint8. Raises Refused.

        A grey palette gives its greys, a colour palette its indices. JPEG has no exact values, so it is
        thresholded at half into 0 and 255.
        """
        return _as_mask(self._source.pixels(page, mask=True), exact=self.header.format != "jpeg")

    def window(self) -> tuple[float, float]:
        """The values shown as black and white and trained on as 0 and 255, one pair for all pages.

        8-bit files are shown unchanged. Others saturate 0.35 % at either end, as ImageJ's automatic contrast does.
        """
        header = self.header
        if header.dtype == "uint8":
            return 0.0, 255.0
        chosen = np.unique(np.linspace(0, header.pages - 1, min(header.pages, 8)).astype(int))
        step = max(1, int((header.width * header.height * len(chosen) / SAMPLED) ** 0.5))
        return window(np.ascontiguousarray(self.grey(int(page))[::step, ::step]) for page in chosen)


@contextmanager
def opened(path: Path, *, name: str = "") -> Iterator[Opened]:
    """Opens a file by its first bytes. Raises Refused where its format is not read.

    `name` is the user's name of the file; its suffix selects the advice on exporting from other formats.
    """
    size = path.stat().st_size
    if size == 0:
        raise Refused("The file is empty (0 bytes).", "Export it again and add it here.")
    source = _source(path, name or path.name)
    try:
        yield Opened(source, size=size)
    finally:
        source.close()


def inspect(path: Path, *, name: str = "") -> Header:
    """Reads and validates the header of a file without decoding pixels. Raises Refused."""
    with opened(path, name=name) as file:
        return file.header


def read(path: Path, *, page: int = 0) -> NDArray[np.generic]:
    """The pixels of one page as (H, W) in the file's own type, colour reduced to lightness. Raises Refused."""
    with opened(path) as file:
        return file.grey(page)


def read_colour(path: Path, *, page: int = 0) -> NDArray[np.generic]:
    """The pixels of one page as RGB, (H, W, 3), in the file's own type; grey is repeated, transparency left out.

    Raises Refused.
    """
    with opened(path) as file:
        pixels = file.pixels(page)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3])


def read_mask(path: Path, *, page: int = 0) -> NDArray[np.uint8]:
    """One page as class values, (H, W) uint8; see `Opened.mask`. Raises Refused."""
    with opened(path) as file:
        return file.mask(page)


def window_of(path: Path, header: Header) -> tuple[float, float]:
    """See `Opened.window`; with `header` given, an 8-bit file need not be opened."""
    if header.dtype == "uint8":
        return 0.0, 255.0
    with opened(path) as file:
        return file.window()


def is_colour(path: Path) -> bool:
    """Whether the channels of a picture differ; those of a grey picture saved as RGB do not."""
    with opened(path) as file:
        return file.header.colour and differs(file.pixels())


def differs(pixels: NDArray[np.generic]) -> bool:
    """Whether the channels of (H, W, C) differ, measured on a small copy, in which codec artefacts average out."""
    if pixels.ndim == 2 or pixels.shape[2] < 3:
        return False
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / SAMPLED) ** 0.5))
    some = pixels[::step, ::step, :3]
    if some.dtype != np.uint8:
        low, high = window([np.ascontiguousarray(some)])
        some = windowed(some, low=low, high=high)
    small = Image.fromarray(np.ascontiguousarray(some)).resize((64, 64), Image.Resampling.BOX)
    return int(np.ptp(np.asarray(small).astype(np.int16), axis=2).max()) > 8


def _source(path: Path, name: str) -> Source:
    with open(path, "rb") as file:
        start = file.read(mrc.START)
    if start[:4] in tiff.STARTS:
        return tiff.Tiff(path)
    if start.startswith(png_jpeg.STARTS):
        return png_jpeg.Picture(path)
    if start.startswith(npy.START):
        return npy.Npy(path)
    if mrc.is_mrc(start, suffix=Path(name).suffix.lower()):
        return mrc.Mrc(path)
    raise _unknown(name, start)


def _as_mask(pixels: NDArray[np.generic], *, exact: bool) -> NDArray[np.uint8]:
    if pixels.ndim == 3:
        if any(not np.array_equal(pixels[..., 0], pixels[..., n]) for n in range(1, min(3, pixels.shape[2]))):
            raise Refused(
                "The mask is a colour picture, so its classes cannot be told apart reliably.",
                "Export it as an 8-bit label image, one number per class.",
            )
        pixels = pixels[..., 0]
    if not exact:
        return np.where(np.asarray(pixels, np.uint8) >= 128, 255, 0).astype(np.uint8)
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    if pixels.dtype.kind == "f" and not _are_whole(np.asarray(pixels, np.float64)):
        raise Refused(
            "The mask holds fractions; classes are whole numbers.", "Round or threshold it, then add it here."
        )
    if pixels.min() < 0 or pixels.max() > 255:
        raise Refused(
            f"The mask holds the value {pixels.max() if pixels.max() > 255 else pixels.min():g}; classes are 0 to 255.",
            "If it has one number per object, make it binary (0 and 255) and add it here.",
        )
    return pixels.astype(np.uint8)


def _are_whole(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def _unknown(name: str, start: bytes) -> Refused:
    suffix = Path(name).suffix.lower()
    if suffix in _EXPORTS:
        return Refused(
            f"{_EXPORTS[suffix]} files are not read.",
            "Open it in Fiji (File, Import, Bio-Formats) and save it as TIFF (File, Save As, Tiff), then add that.",
        )
    if packed := next((name for begin, name in _PACKED.items() if start.startswith(begin)), ""):
        return Refused(f"It is packed by {packed}.", "Unpack it, and add the files or a zip of them.")
    if suffix == ".npz" or start[:4] == b"PK\x03\x04":
        return Refused("It is an archive within the archive.", "Unpack it and add its files, or add it by itself.")
    if start[:4] == b"GIF8" or start[:2] == b"BM" or suffix in _PICTURES:
        return Refused("Pictures are read as PNG, JPEG or TIFF.", "Save it as PNG and add that.")
    return Refused(
        "This is not a PNG, JPEG, TIFF, MRC or .npy file.", "Save the micrograph as TIFF or PNG and add that."
    )
