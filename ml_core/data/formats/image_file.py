"""What the readers of all formats share: what a file says about itself, and how one that cannot be taken is refused.

Imports no torch.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_PIXELS = 450_000_000
"""One image: 21,213 x 21,213."""
MAX_PAGE_BYTES = 2**30
MAX_PAGES = 4096
CHECK_RATIO_ABOVE = 256 * 2**20
"""Small files may well be all black and compress a thousandfold; only large ones can hurt."""
MAX_RATIO = 1000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow warns above it and refuses twice as much, both before decoding.

DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"})

CREDIBLE_NM = (0.01, 10_000.0)
"""Pixel sizes of microscopes. The 72 or 300 dpi that drawing programs write stand far above it."""

_FILES_FAULT = {None, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG}
"""Of errors of the system, those that come of an offset that no file has; decoders leave the number empty."""

AGAIN = "Export it again and add it here."


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
    channels: int = 1
    colour: bool = False
    """Three channels or a colour palette; whether they differ is known only when the pixels are read."""
    pixel_size_nm: float | None = None
    notes: tuple[str, ...] = field(default=())
    ratio: int = MAX_RATIO
    """As how many times its own size the pixels may unpack."""


class Source(Protocol):
    """An open file of one format. Not for two threads at once."""

    def header(self) -> Header:
        """Reads and judges what the file says about itself, no pixels. Raises Refused."""

    def pixels(self, page: int, *, mask: bool = False) -> NDArray[np.generic]:
        """One page as the file has it, (H, W) or (H, W, C). `mask` keeps the numbers of a palette's colours."""

    def close(self) -> None: ...


def validated(header: Header, *, size: int) -> Header:
    """The header itself, where a file of `size` bytes that has it can be taken. Raises Refused."""
    pixels = header.width * header.height
    page = pixels * header.channels * np.dtype(header.dtype).itemsize
    if pixels <= 0 or header.pages <= 0:
        raise Refused("The image has no pixels.", AGAIN)
    if pixels <= MAX_PIXELS and page > MAX_PAGE_BYTES:
        raise Refused(
            f"The image takes {page / 2**30:.1f} GB unpacked; up to {MAX_PAGE_BYTES / 2**30:.0f} GB is read.",
            "Save it as 8 or 16 bits of grey, or cut it into tiles, and add that.",
        )
    if pixels > MAX_PIXELS:
        raise Refused(
            f"The image is {header.width:,} x {header.height:,} px; up to {MAX_PIXELS // 10**6} megapixels are read.",
            "Cut it into tiles and add those.",
        )
    if header.pages > MAX_PAGES:
        raise Refused(
            f"The file has {header.pages:,} pages; up to {MAX_PAGES:,} are read.", "Split the stack into several files."
        )
    if CHECK_RATIO_ABOVE < header.pages * page > header.ratio * size:
        raise Refused(
            f"The file is {size:,} bytes and claims to hold {header.pages * page:,}: no micrograph compresses like "
            "that.",
            "Export it again without compression.",
        )
    return header


def credible(size_nm: float | None) -> float | None:
    """A pixel size in nanometres, six digits of it; None where no microscope has such."""
    if size_nm is None or not CREDIBLE_NM[0] <= size_nm <= CREDIBLE_NM[1]:  # not a number fails too
        return None
    return float(f"{size_nm:.6g}")


@contextmanager
def refusing() -> Iterator[None]:
    """Turns whatever a decoder says about a damaged file into a sentence; the memory's end is not the file's fault."""
    try:
        yield
    except (Refused, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise Refused(f"The image has more than {2 * MAX_PIXELS:,} pixels.", "Cut it into tiles.") from error
    except OSError as error:
        if error.errno not in _FILES_FAULT:
            raise  # The disk's fault or a missing file, and not what is in it.
        raise Refused("The file is damaged or cut off.", AGAIN) from error
    except (ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error) as error:
        raise Refused("The file is damaged or cut off.", AGAIN) from error
    except Exception as error:
        # Decoders have errors of their own (a class per codec): whatever they say, this file is refused by name.
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refused(f"The file cannot be decoded ({said}).", "Save it as PNG or as plain TIFF.") from error
