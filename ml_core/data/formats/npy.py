"""Reads NumPy's `.npy` files: one array, never a pickle. Imports no torch.

A file is one image (H, W), one in colour (H, W, 3 or 4), a stack of images (N, H, W) or of colour images
(N, H, W, 3 or 4). An array of 8 or 16 bits with a last axis of 3 or 4 counts as colour.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ml_core.data.formats.image_file import AGAIN, DTYPES, Header, Refused, refusing

START = b"\x93NUMPY"
_MOST_HEADER = 10_000
_LABELS = {"int64", "uint64"}
"""NumPy's default integers, in which scripts save masks: read in this format only."""


class Npy:
    """One `.npy` file (`ml_core.data.formats.image_file.Source`)."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  closed by close()
        self._size = path.stat().st_size
        self._facts: tuple[tuple[int, ...], np.dtype[np.generic], int] | None = None

    def close(self) -> None:
        self._file.close()

    def header(self) -> Header:
        with refusing():
            shape, dtype, _ = self._read_facts()
        colour = _is_colour(shape, dtype)
        height, width = shape[-3:-1] if colour else shape[-2:]
        return Header(
            format="npy",
            width=width,
            height=height,
            dtype="uint8" if dtype == np.bool_ else dtype.name,
            pages=shape[0] if len(shape) > (3 if colour else 2) else 1,
            channels=shape[-1] if colour else 1,
            colour=colour,
        )

    def pixels(self, page: int, *, mask: bool = False) -> NDArray[np.generic]:
        with refusing():
            shape, dtype, start = self._read_facts()
            one = shape[-3:] if _is_colour(shape, dtype) else shape[-2:]
            if not 0 <= page < math.prod(shape) // max(1, math.prod(one)):
                raise IndexError(page)
            self._file.seek(start + page * math.prod(one) * dtype.itemsize)
            flat = np.fromfile(self._file, dtype, count=math.prod(one))
            pixels = flat.reshape(one).astype(dtype.newbyteorder("="), copy=False)
            return pixels.astype(np.uint8) * np.uint8(255) if dtype == np.bool_ else pixels

    def _read_facts(self) -> tuple[tuple[int, ...], np.dtype[np.generic], int]:
        """Shape, type and where the pixels begin. Raises Refused."""
        if self._facts is None:
            self._file.seek(0)
            shape, column_major, dtype = _declared(self._file)
            if dtype.hasobject or dtype.fields is not None:
                raise Refused(
                    "It holds Python objects or records and no plain array.",
                    "Save the array of its pixels with numpy.save(..., allow_pickle=False).",
                )
            if dtype.name not in DTYPES | _LABELS | {"bool"}:
                raise Refused(f"Its pixels are of the type {dtype.name}.", "Save it as 8 or 16 bits.")
            if not (len(shape) in (2, 3) or (len(shape) == 4 and _is_colour(shape, dtype))) or min(shape) < 1:
                raise Refused(
                    f"It holds an array of shape {'x'.join(map(str, shape[:8])) or 'of a single number'}.",
                    "Save one image (height, width) or a stack (slices, height, width).",
                )
            if column_major and len(shape) > 1:
                raise Refused(
                    "Its array lies in memory column by column.", "Save numpy.ascontiguousarray(array) and add that."
                )
            start = self._file.tell()
            if self._size - start < math.prod(shape) * dtype.itemsize:
                raise Refused("The file is damaged or cut off.", AGAIN)
            self._facts = shape, dtype, start
        return self._facts


def _declared(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Parses the file's header: shape, whether in Fortran order, type."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise Refused(f"It is of version {version[0]}.{version[1]}.", "Save it with numpy.save as a plain array.")
    shape, column_major, dtype = read(file, max_header_size=_MOST_HEADER)
    if not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape):
        raise ValueError("a size that no array has")
    return shape, column_major, dtype


def _is_colour(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bool:
    return len(shape) in (3, 4) and shape[-1] in (3, 4) and dtype.name in ("uint8", "uint16")
