"""Types and checks that the readers of all image formats share: headers, limits, and the error for refused files.

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
"""Limit of one image: 21,213 x 21,213."""
MAX_PAGE_BYTES = 2**30
MAX_PAGES = 4096
CHECK_RATIO_ABOVE = 256 * 2**20
"""Small files may be all black and compress a thousandfold, so only large ones are checked."""
MAX_RATIO = 1000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow warns above it and raises above twice as much, both before decoding.

DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"})

CREDIBLE_NM = (0.01, 10_000.0)
"""Range of pixel sizes of microscopes. The 72 or 300 dpi that drawing programs write are far above it."""

_FILES_FAULT = {None, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG}
"""System errors that an impossible offset in a file causes; decoders raise OSError without a number."""

AGAIN = "Export it again and add it here."


class Refused(Exception):
    """Raised for a file that is not accepted. `reason` describes what is wrong with it, `remedy` what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Header:
    """The facts in a file's header. All pages that are read share size and type."""

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
    """How many times the file's own size its unpacked pixels may take."""


class Source(Protocol):
    """An open file of one format. Not thread-safe."""

    def header(self) -> Header:
        """Reads and validates the file's header without decoding pixels. Raises Refused."""

    def pixels(self, page: int, *, mask: bool = False) -> NDArray[np.generic]:
        """One page as stored, (H, W) or (H, W, C). With `mask` a colour palette gives its indices, not its colours."""

    def close(self) -> None: ...


def validated(header: Header, *, size: int) -> Header:
    """Returns the header where a file of `size` bytes with it is accepted. Raises Refused otherwise."""
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
    """A pixel size in nanometres, rounded to six digits; None where it is outside of a microscope's range."""
    if size_nm is None or not CREDIBLE_NM[0] <= size_nm <= CREDIBLE_NM[1]:  # NaN fails too
        return None
    return float(f"{size_nm:.6g}")


@contextmanager
def refusing() -> Iterator[None]:
    """Converts a decoder's error for a damaged file to Refused; lack of memory is not treated as the file's fault."""
    try:
        yield
    except (Refused, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise Refused(f"The image has more than {2 * MAX_PIXELS:,} pixels.", "Cut it into tiles.") from error
    except OSError as error:
        if error.errno not in _FILES_FAULT:
            raise  # A disk error or a missing file: the file's content is not the cause.
        raise Refused("The file is damaged or cut off.", AGAIN) from error
    except (ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error) as error:
        raise Refused("The file is damaged or cut off.", AGAIN) from error
    except Exception as error:
        # Decoders raise error classes of their own, one per codec: for any of them the file is refused by name.
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refused(f"The file cannot be decoded ({said}).", "Save it as PNG or as plain TIFF.") from error
