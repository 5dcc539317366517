"""Reads PNG, JPEG and TIFF files as grey micrographs or as masks. Nothing here imports torch.

The header is read and judged before any pixel is decoded. What cannot be taken is refused with its reason and with
what to do about it; nothing is skipped in silence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ml_core.data import tiff

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})

MAX_PIXELS = 200_000_000
"""One image: 14,142 x 14,142. More is a tile pyramid's work."""
MAX_PAGE_BYTES = 2**30
MAX_PAGES = 4096
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow warns above it and refuses twice as much, both before decoding.

_EXPORTS = {
    ".dm3": "Gatan DM3",
    ".dm4": "Gatan DM4",
    ".czi": "Zeiss CZI",
    ".nd2": "Nikon ND2",
    ".lif": "Leica LIF",
    ".ser": "FEI SER",
    ".emd": "EMD",
    ".mrc": "MRC",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".nii": "NIfTI",
}
_PILLOW_DTYPES = {"1": "uint8", "L": "uint8", "P": "uint8", "LA": "uint8", "RGB": "uint8", "RGBA": "uint8"}


class Refused(Exception):
    """A file that cannot be taken. `reason` says what is wrong with it, `remedy` what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself. All pages that are read share size and type."""

    format: str
    width: int
    height: int
    dtype: str
    pages: int = 1
    colour: bool = False
    """Three channels or a colour palette; whether they differ is known only when the pixels are read."""
    pixel_size_nm: float | None = None
    notes: tuple[str, ...] = field(default=())


def inspect(path: Path, *, name: str = "") -> Header:
    """Reads the header of a file and judges it, without decoding pixels. Raises Refused.

    `name` is what the user called the file; its suffix helps to say how to export formats that are not read.
    """
    if path.stat().st_size == 0:
        raise Refused("The file is empty (0 bytes).", "Export it again and add it here.")
    with open(path, "rb") as file:
        start = file.read(8)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        header = _inspect_tiff(path)
    elif start[:8] == b"\x89PNG\r\n\x1a\n" or start[:3] == b"\xff\xd8\xff":
        header = _inspect_picture(path)
    else:
        raise _unknown(name or path.name, start)
    pixels = header.width * header.height
    if pixels == 0:
        raise Refused("The image has no pixels.", "Export it again and add it here.")
    if pixels > MAX_PIXELS or pixels * np.dtype(header.dtype).itemsize > MAX_PAGE_BYTES:
        raise Refused(
            f"The image is {header.width:,} x {header.height:,} px; up to {MAX_PIXELS // 10**6} megapixels are read.",
            "Cut it into tiles and add those.",
        )
    if header.pages > MAX_PAGES:
        raise Refused(
            f"The file has {header.pages:,} pages; up to {MAX_PAGES:,} are read.", "Split the stack into several files."
        )
    return header


def read(path: Path, *, page: int = 0) -> NDArray[np.generic]:
    """The pixels of one page as (H, W) in the file's own type, colour reduced to lightness. Raises Refused."""
    pixels = _pixels(path, page=page)
    if pixels.ndim == 3:
        pixels = _lightness(pixels)
    return pixels


def read_mask(path: Path, *, page: int = 0) -> NDArray[np.uint8]:
    """One page as class values, (H, W) uint8. Raises Refused.

    A palette of greys stands for its greys, one of colours for its numbers. JPEG has no exact values, so it is cut at
    half into 0 and 255.
    """
    with open(path, "rb") as file:
        is_jpeg = file.read(3) == b"\xff\xd8\xff"
    pixels = _pixels(path, page=page, mask=True)
    if pixels.ndim == 3:
        if np.ptp(pixels[..., :3], axis=2).any():
            raise Refused(
                "The mask is a colour picture, so its classes cannot be told apart reliably.",
                "Export it as an 8-bit label image, one number per class.",
            )
        pixels = pixels[..., 0]
    if is_jpeg:
        return np.where(np.asarray(pixels, np.uint8) >= 128, 255, 0).astype(np.uint8)
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


def is_colour(path: Path) -> bool:
    """Whether the channels of a picture differ, looked at on a small copy: a grey picture saved as RGB does not."""
    try:
        with Image.open(path, formats=["PNG", "JPEG"]) as picture:
            small = picture.convert("RGB").resize((64, 64), Image.Resampling.BOX)
    except UnidentifiedImageError:
        pixels = _pixels(path, page=0)
        if pixels.ndim == 2:
            return False
        small = Image.fromarray(pixels[:: max(1, len(pixels) // 64), :: max(1, pixels.shape[1] // 64), :3])
    return int(np.ptp(np.asarray(small).astype(np.int16), axis=2).max()) > 8


def window_of(path: Path, header: Header) -> tuple[float, float]:
    """The values shown as black and white and trained on as 0 and 255, one pair for all pages of a file.

    8-bit files show as they are. Others saturate 0.35 % at either end, as ImageJ's automatic contrast does.
    """
    if header.dtype == "uint8":
        return 0.0, 255.0
    chosen = np.unique(np.linspace(0, header.pages - 1, min(header.pages, 8)).astype(int))
    step = max(1, int((header.width * header.height * len(chosen) / 4_000_000) ** 0.5))
    return window([read(path, page=int(page))[::step, ::step] for page in chosen])


def window(samples: list[NDArray[np.generic]]) -> tuple[float, float]:
    """As `window_of`, of pixels that are already there. An image without contrast lands in the middle, as grey."""
    values = np.concatenate([np.asarray(sample, np.float64).reshape(-1) for sample in samples])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.35, 99.65)))
    if high <= low:  # A thin bright object on a flat ground: percentiles miss it, the extremes do not.
        low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = low - 1, high + 1
    return low, high


def windowed(pixels: NDArray[np.generic], *, low: float, high: float) -> NDArray[np.uint8]:
    """Pixels (H, W) as uint8, low..high to 0..255; what is not a number becomes 0."""
    if pixels.dtype == np.uint8 and (low, high) == (0, 255):
        return np.asarray(pixels, np.uint8)
    scaled = (np.asarray(pixels, np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.nan_to_num(np.rint(scaled), nan=0, posinf=255, neginf=0).clip(0, 255).astype(np.uint8)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns whatever a decoder says about a damaged file into a sentence; the memory's end is not the file's fault."""
    try:
        yield
    except (Refused, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise Refused(f"The image has more than {2 * MAX_PIXELS:,} pixels.", "Cut it into tiles.") from error
    except OSError as error:
        if error.errno is not None:
            raise  # The disk's fault or a missing file, and not what is in it; decoders leave the number empty.
        raise Refused("The file is damaged or cut off.", "Export it again and add it here.") from error
    except (ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError, struct.error) as error:
        raise Refused("The file is damaged or cut off.", "Export it again and add it here.") from error
    except (ArithmeticError, AttributeError, RuntimeError, AssertionError, NotImplementedError) as error:
        raise Refused(f"The file cannot be decoded ({error}).", "Save it as PNG or as plain TIFF.") from error


def _inspect_picture(path: Path) -> Header:
    with _refusing(), Image.open(path, formats=["PNG", "JPEG"]) as picture:
        dtype = _PILLOW_DTYPES.get(picture.mode) or ("uint16" if picture.mode.startswith("I") else None)
        if dtype is None:
            raise Refused(f"The picture is in the colour model {picture.mode}.", "Save it as greyscale, 8 or 16 bits.")
        return Header(
            format=(picture.format or "").lower(),
            width=picture.width,
            height=picture.height,
            dtype=dtype,
            colour=picture.mode in {"RGB", "RGBA", "P"},
        )


def _inspect_tiff(path: Path) -> Header:
    with _refusing(), tifffile.TiffFile(path) as file:
        facts = tiff.facts_of(file, size=path.stat().st_size, max_pages=MAX_PAGES)
    if facts.fault:
        raise Refused(*facts.fault)
    return Header(
        format="tiff",
        width=facts.width,
        height=facts.height,
        dtype=facts.dtype,
        pages=facts.pages,
        colour=facts.channels >= 3,
        pixel_size_nm=facts.pixel_size_nm,
        notes=facts.notes,
    )


def _pixels(path: Path, *, page: int, mask: bool = False) -> NDArray[np.generic]:
    """(H, W) or (H, W, C) as the file has them."""
    with _refusing():
        with open(path, "rb") as file:
            is_tiff = file.read(2) in (b"II", b"MM")
        if is_tiff:
            with tifffile.TiffFile(path) as stack:
                return tiff.read_page(stack, page, numbers=_numbers(path, path.stat().st_mtime_ns) if page else (0,))
        with Image.open(path, formats=["PNG", "JPEG"]) as picture:
            if picture.mode == "1":
                return np.asarray(picture.convert("L"))
            if picture.mode == "P":
                return np.asarray(picture if mask and not _grey_palette(picture) else picture.convert("RGB"))
            if picture.mode == "LA":
                return np.asarray(picture)[..., 0]
            pixels = np.asarray(picture)
            return pixels.astype(np.uint16) if picture.mode.startswith("I") else pixels


@lru_cache(maxsize=64)
def _numbers(path: Path, _changed: int) -> tuple[int, ...]:
    with tifffile.TiffFile(path) as file:
        return tuple(tiff.page_numbers(file))


def _grey_palette(picture: Image.Image) -> bool:
    colours = np.asarray(picture.getpalette("RGB") or [], np.int16).reshape(-1, 3)
    return not np.ptp(colours, axis=1).any() if len(colours) else True


def _lightness(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """(H, W, C) to (H, W): the first channel where all are equal, else luma by ITU-R BT.601."""
    if pixels.shape[2] < 3:
        return pixels[..., 0]
    first = pixels[..., 0]
    if np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
        return first
    luma = np.asarray(pixels[..., :3], np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return luma.astype(pixels.dtype) if pixels.dtype.kind == "f" else np.rint(luma).astype(pixels.dtype)


def _are_whole(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def _unknown(name: str, start: bytes) -> Refused:
    suffix = Path(name).suffix.lower()
    if suffix in _EXPORTS:
        return Refused(
            f"{_EXPORTS[suffix]} files are not read.",
            "Open it in Fiji and save it as TIFF (File, Save As, Tiff), then add that.",
        )
    if start[:4] == b"GIF8" or start[:2] == b"BM" or suffix in {".gif", ".bmp", ".webp", ".svg"}:
        return Refused("Only PNG, JPEG and TIFF pictures are read.", "Save it as PNG and add that.")
    return Refused("This is not a PNG, JPEG or TIFF file.", "Save the micrograph as TIFF or PNG and add that.")
