"""What a TIFF file holds, judged by its tags before any pixel is decoded. Nothing here imports torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tifffile
from numpy.typing import NDArray

CODECS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34887, 34892, 34925, 50000, 33003, 33005, 34712})
"""None, CCITT, LZW, JPEG, Deflate, PackBits, LERC, LZMA, Zstandard, JPEG 2000: what microscopes and Fiji write."""
DTYPES = frozenset({"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"})

TILE_BYTES = 64 * 2**20
CHECK_RATIO_ABOVE = 256 * 2**20
"""Small files may well be all black and compress a thousandfold; only large ones can hurt."""
RATIO = 1000
RATIO_CCITT = 10_000

CREDIBLE_NM = (0.01, 10_000.0)
"""Pixel sizes of microscopes. The 72 or 300 dpi that drawing programs write stand far above it."""

_NM = {"nm": 1.0, "um": 1e3, "\u00b5m": 1e3, "\u03bcm": 1e3, "micron": 1e3, "microns": 1e3, "\\u00b5m": 1e3, "mm": 1e6}


@dataclass(frozen=True, slots=True)
class Facts:
    """Size, type and pages; `fault` holds reason and remedy where the file cannot be taken."""

    width: int = 0
    height: int = 0
    dtype: str = ""
    channels: int = 1
    pages: int = 0
    pixel_size_nm: float | None = None
    notes: tuple[str, ...] = ()
    fault: tuple[str, str] | None = None


def facts_of(file: tifffile.TiffFile, *, size: int, max_pages: int) -> Facts:
    """The facts of an open file of `size` bytes. Reads tags only."""
    count = _pages_at_most(file, max_pages + 1)
    if count > max_pages:
        return _fault(f"The file has more than {max_pages:,} pages.", "Split the stack into several files.")
    first = file.pages[0].aspage()
    if (fault := _fault_of_page(first)) is not None:
        return fault
    kept = page_numbers(file)
    left_out = count - len(kept)
    pages = contiguous_images(file) or len(kept)
    channels = first.samplesperpixel
    dtype = np.dtype(np.uint8 if first.dtype == np.bool_ else first.dtype)
    declared = pages * first.imagewidth * first.imagelength * channels * dtype.itemsize
    limit = RATIO_CCITT if first.compression in (2, 3, 4) else RATIO
    if declared > CHECK_RATIO_ABOVE and declared > limit * size:
        return _fault(
            f"The file is {size:,} bytes and claims to hold {declared:,}: no micrograph compresses like that.",
            "Export it again without compression.",
        )
    notes = (f"{left_out} pages of another size (previews) were left out.",) if left_out else ()
    return Facts(
        width=first.imagewidth,
        height=first.imagelength,
        dtype=dtype.name,
        channels=channels,
        pages=pages,
        pixel_size_nm=pixel_size_of(file),
        notes=notes,
    )


def page_numbers(file: tifffile.TiffFile) -> list[int]:
    """The pages with the first page's size and type; previews and pyramid levels are others."""
    first = file.pages[0].aspage()
    return [
        number
        for number, page in enumerate(file.pages)
        if (page.shape, page.dtype) == (first.shape, first.dtype) and not (number and page.aspage().is_reduced)
    ]


def contiguous_images(file: tifffile.TiffFile) -> int:
    """How many images follow each other behind a single directory, as ImageJ writes stacks; 0 where it is not so."""
    metadata = file.imagej_metadata or {}
    images = int(metadata.get("images", 1)) if file.is_imagej else 1
    first = file.pages[0].aspage()
    if images <= 1 or len(file.pages) > 1 or not first.is_contiguous:
        return 0
    there = (file.filehandle.size - first.dataoffsets[0]) // max(1, first.nbytes)
    return images if there >= images else 0


def read_page(file: tifffile.TiffFile, page: int, *, numbers: Sequence[int]) -> NDArray[np.generic]:
    """One page as (H, W) or (H, W, C), bits as 0 and 255. Raises IndexError where there is no such page.

    `numbers` are the file's `page_numbers`: found once per file, as it takes a look at every page.
    """
    first = file.pages[0].aspage()
    if contiguous_images(file):
        file.filehandle.seek(first.dataoffsets[0] + page * first.nbytes)
        dtype = np.dtype(first.dtype)
        flat = np.frombuffer(file.filehandle.read(first.nbytes), dtype.newbyteorder(file.byteorder))
        pixels = flat.reshape(first.shape).astype(dtype)
    else:
        pixels = file.pages[numbers[page]].asarray(maxworkers=1)
    if first.photometric == 0 and pixels.dtype.kind in "bu":  # white is zero: turned so that bright is bright
        pixels = ~pixels if pixels.dtype == np.bool_ else np.iinfo(pixels.dtype).max - pixels
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif first.bitspersample == 1:
        pixels = (pixels > 0).astype(np.uint8) * np.uint8(255)
    return np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 and first.planarconfig == 2 else pixels


def pixel_size_of(file: tifffile.TiffFile) -> float | None:
    """Nanometres per pixel, from OME's or ImageJ's description or from the resolution tags; None where not credible."""
    return _credible(_ome_size(file) or _resolution_size(file))


def _ome_size(file: tifffile.TiffFile) -> float | None:
    if not file.is_ome or not file.ome_metadata:
        return None
    text = file.ome_metadata[:100_000]
    size = re.search(r'\bPhysicalSizeX="([0-9.eE+-]+)"', text)
    unit = re.search(r'\bPhysicalSizeXUnit="([^"]+)"', text)
    factor = _NM.get(unit.group(1) if unit else "um")  # OME's own default is the micrometre
    try:
        return float(size.group(1)) * factor if size and factor else None
    except ValueError:
        return None


def _resolution_size(file: tifffile.TiffFile) -> float | None:
    tags = file.pages[0].aspage().tags
    if "XResolution" not in tags:
        return None
    value = tags["XResolution"].value
    above, below = value if isinstance(value, tuple) else (value, 1)
    if not above or not below:
        return None
    per_unit = above / below
    unit = str((file.imagej_metadata or {}).get("unit", "")) if file.is_imagej else ""
    if unit:
        return _NM[unit] / per_unit if unit in _NM else None
    code = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    nm_per_unit = {2: 25_400_000.0, 3: 10_000_000.0}.get(code)
    return nm_per_unit / per_unit if nm_per_unit else None


def _credible(size: float | None) -> float | None:
    if size is None or not math.isfinite(size) or not CREDIBLE_NM[0] <= size <= CREDIBLE_NM[1]:
        return None
    return float(f"{size:.6g}")


def _pages_at_most(file: tifffile.TiffFile, most: int) -> int:
    """Counts directories without reading on for ever in a file whose directories point in a circle."""
    count = 0
    for _ in file.pages:
        count += 1
        if count >= most:
            break
    return count


def _fault_of_page(page: tifffile.TiffPage) -> Facts | None:
    if page.dtype is None or np.dtype(page.dtype).name not in DTYPES:
        return _fault(f"Its pixels are of the type {page.dtype}.", "Save it as 8 or 16 bits.")
    if int(page.compression) not in CODECS:
        return _fault(f"Its compression (number {int(page.compression)}) is not read.", "Save it uncompressed.")
    if page.imagedepth > 1 or page.samplesperpixel > 4:
        return _fault(
            f"It holds {page.samplesperpixel} channels in {page.imagedepth} layers per page.",
            "Save one channel as a stack of grey images.",
        )
    if page.is_tiled and page.tilewidth * page.tilelength * page.samplesperpixel * page.dtype.itemsize > TILE_BYTES:
        return _fault(f"Its tiles are {page.tilewidth:,} x {page.tilelength:,} px.", "Save it again without tiles.")
    return None


def _fault(reason: str, remedy: str) -> Facts:
    return Facts(fault=(reason, remedy))
