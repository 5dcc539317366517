"""Reads TIFF files, which are validated by their tags before any pixel is decoded. Imports no torch."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from ml_core.data.formats.image_file import AGAIN, DTYPES, MAX_PAGES, MAX_RATIO, Header, Refused, credible, refusing

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
CODECS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34887, 34892, 34925, 50000, 33003, 33005, 34712})
"""None, CCITT, LZW, JPEG, Deflate, PackBits, LERC, LZMA, Zstandard, JPEG 2000: what microscopes and Fiji write."""
TILE_BYTES = 64 * 2**20
RATIO_CCITT = 10_000
READ_AHEAD = 16 * 2**20
"""Compressed bytes held in memory while they are unpacked: the library's default of 256 MB is not faster."""

_NM = {"nm": 1.0, "um": 1e3, "\u00b5m": 1e3, "\u03bcm": 1e3, "micron": 1e3, "microns": 1e3, "\\u00b5m": 1e3, "mm": 1e6}
_NM |= {"\u00c5": 0.1, "\u212b": 0.1, "angstrom": 0.1, "pm": 1e-3, "cm": 1e7, "m": 1e9}


class Tiff:
    """One TIFF file (`ml_core.data.formats.image_file.Source`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with refusing():
            self._file = tifffile.TiffFile(path)

    def close(self) -> None:
        self._file.close()

    def header(self) -> Header:
        with refusing():
            return _header_of(self._file)

    def pixels(self, page: int, *, mask: bool = False) -> NDArray[np.generic]:
        with refusing():
            offset = _offsets(self._path, self._path.stat().st_mtime_ns)[page] if page else 0
            return _read_page(self._file, page, offset=offset)


def _header_of(file: tifffile.TiffFile) -> Header:
    """Reads tags only. Raises Refused."""
    count = _pages_at_most(file, MAX_PAGES + 1)
    if count > MAX_PAGES:
        raise Refused(f"The file has more than {MAX_PAGES:,} pages.", "Split the stack into several files.")
    first = file.pages[0].aspage()
    _check_page(first)
    left_out = count - len(_same_layout(file)) if count > 1 else 0
    pages = _contiguous_images(file) or count - left_out
    channels = first.samplesperpixel
    dtype = np.dtype(np.uint8 if first.dtype == np.bool_ else first.dtype)
    notes = [f"{left_out} pages of another size (previews) were left out."] if left_out else []
    planes = _planes_per_slice(file)
    if planes > 1:
        notes.append(f"It holds {planes} channels or time points per slice; each plane became an image.")
    return Header(
        format="tiff",
        width=first.imagewidth,
        height=first.imagelength,
        dtype=dtype.name,
        pages=pages,
        channels=channels,
        colour=channels >= 3,
        pixel_size_nm=credible(_ome_size(file) or _resolution_size(file)),
        notes=tuple(notes),
        ratio=RATIO_CCITT if first.compression in (2, 3, 4) else MAX_RATIO,
    )


@lru_cache(maxsize=64)
def _offsets(path: Path, _changed: int) -> tuple[int, ...]:
    """Offsets of the directories of the pages that count. Cached, as finding the last one reads all others."""
    with tifffile.TiffFile(path) as file:
        return tuple(page.offset for page in _same_layout(file))


def _same_layout(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The pages with the first page's size and type; previews and pyramid levels differ in these."""
    first = file.pages[0].aspage()
    return [
        page.aspage()
        for number, page in enumerate(file.pages)
        if (page.shape, page.dtype) == (first.shape, first.dtype) and not (number and page.aspage().is_reduced)
    ]


def _contiguous_images(file: tifffile.TiffFile) -> int:
    """How many contiguous images a single directory describes, as ImageJ writes stacks; 0 for other files."""
    if not file.is_imagej:
        return 0
    images = int((file.imagej_metadata or {}).get("images", 1))
    first = file.pages[0].aspage()
    if images <= 1 or not first.is_contiguous or len(file.pages) > 1:
        return 0
    there = (file.filehandle.size - first.dataoffsets[0]) // max(1, first.nbytes)
    return images if there >= images else 0


def _read_page(file: tifffile.TiffFile, page: int, *, offset: int) -> NDArray[np.generic]:
    """One page as (H, W) or (H, W, C), bits as 0 and 255. `offset` is that of the page's directory, 0 for the first."""
    first = file.pages[0].aspage()
    if page and _contiguous_images(file):
        file.filehandle.seek(first.dataoffsets[0] + page * first.nbytes)
        dtype = np.dtype(first.dtype).newbyteorder(file.byteorder)
        flat = np.frombuffer(file.filehandle.read(first.nbytes), dtype)
        pixels = flat.reshape(first.shape).astype(first.dtype)
    elif page:
        file.filehandle.seek(offset)
        pixels = tifffile.TiffPage(file, index=page).asarray(maxworkers=1, buffersize=READ_AHEAD)
    else:
        pixels = first.asarray(maxworkers=1, buffersize=READ_AHEAD)
    white_is_zero = first.photometric == 0  # inverted, so that larger values are brighter
    if pixels.dtype == np.bool_ or first.bitspersample == 1:
        # tifffile calls bits "white is zero" but does not invert them: its True must stay true.
        white_is_zero &= not str(first.software).startswith("tifffile")
        pixels = ((pixels > 0) ^ white_is_zero).astype(np.uint8) * np.uint8(255)
    elif white_is_zero and pixels.dtype.kind == "u":
        pixels = np.invert(pixels, out=pixels if pixels.flags.writeable else None)
    return np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 and first.planarconfig == 2 else pixels


def _planes_per_slice(file: tifffile.TiffFile) -> int:
    """Channels times time points in OME's or ImageJ's description; 1 where there is none."""
    if file.is_imagej:
        said = file.imagej_metadata or {}
        return int(said.get("channels", 1)) * int(said.get("frames", 1))
    text = (file.ome_metadata or "")[:100_000] if file.is_ome else ""
    found = [re.search(rf'\b{name}="(\d{{1,6}})"', text) for name in ("SizeC", "SizeT")]
    samples = re.search(r'\bSamplesPerPixel="(\d{1,2})"', text)
    channels, times = (int(match.group(1)) if match else 1 for match in found)
    return max(1, channels // max(1, int(samples.group(1)) if samples else 1)) * times


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


def _pages_at_most(file: tifffile.TiffFile, most: int) -> int:
    """Counts directories up to `most`, as in a damaged file directories can form an endless circle."""
    count = 0
    for _ in file.pages:
        count += 1
        if count >= most:
            break
    return count


def _check_page(page: tifffile.TiffPage) -> None:
    """Raises Refused where a page of this kind is not supported."""
    if page.dtype is None or np.dtype(page.dtype).name not in DTYPES | {"bool"}:
        raise Refused(f"Its pixels are of the type {page.dtype}.", "Save it as 8 or 16 bits.")
    if int(page.compression) not in CODECS:
        raise Refused(f"Its compression (number {int(page.compression)}) is not read.", "Save it uncompressed.")
    if page.imagedepth > 1 or page.samplesperpixel > 4:
        raise Refused(
            f"It holds {page.samplesperpixel} channels in {page.imagedepth} layers per page.",
            "Save one channel as a stack of grey images.",
        )
    if len(page.dataoffsets) < math.prod(page.chunked):
        raise Refused("Parts of its pixels are missing.", AGAIN)
    if page.is_tiled and page.tilewidth * page.tilelength * page.samplesperpixel * page.dtype.itemsize > TILE_BYTES:
        raise Refused(f"Its tiles are {page.tilewidth:,} x {page.tilelength:,} px.", "Save it again without tiles.")
