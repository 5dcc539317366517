"""Reads MRC files of electron microscopes (MRC2014, and IMOD's older dialect). Imports no torch.

A volume or a stack is read section by section in the order of the file, its first row on top: as `mrcfile` and Fiji
show it, while 3dmod and ChimeraX put the first row at the bottom. Images and masks of one program have the same
orientation, so pairs stay aligned. Modes 0 (8 bits), 1 and 6 (16 bits), 2 (floats) and 12 (half floats) are read.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import mrcfile.dtypes
import mrcfile.utils
import numpy as np
from numpy.typing import NDArray

from ml_core.data.formats.image_file import AGAIN, Header, Refused, refusing

SUFFIXES = frozenset({".mrc", ".mrcs", ".map", ".rec", ".st", ".ali", ".preali"})
START = 1024
"""The length of the header in bytes; `is_mrc` needs at least these."""
_MODES = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16"}
_OTHERS = {3: "complex numbers of 16 bits", 4: "complex numbers", 16: "colours", 101: "4 bits"}
_ANGSTROMS = 10.0
_IMOD = 1146047817
"""IMOD's stamp in bytes 152 to 155; the first of the flags after it marks mode 0 as signed."""


def is_mrc(start: bytes, *, suffix: str) -> bool:
    """Whether a file with these first 1,024 bytes is an MRC file: by its word MAP, or by its name and a valid header.

    Files from before 2000 do not contain that word.
    """
    if len(start) < START:
        return False
    if start[208:212] in (b"MAP ", b"MAP\0"):
        return True
    sound = (all(0 < n < 2**16 for n in found[:3]) and found[3] in (*_MODES, *_OTHERS) for found in _both_orders(start))
    return suffix in SUFFIXES and any(sound)


class Mrc:
    """One MRC file (`ml_core.data.formats.image_file.Source`)."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  closed by close()
        self._size = path.stat().st_size
        self._facts: tuple[tuple[int, int, int], np.dtype[np.generic], int, float | None, tuple[str, ...]] | None = None

    def close(self) -> None:
        self._file.close()

    def header(self) -> Header:
        with refusing():
            (sections, height, width), dtype, _, pixel_size, notes = self._read_facts()
        return Header(
            format="mrc",
            width=width,
            height=height,
            dtype=dtype.name,
            pages=sections,
            pixel_size_nm=pixel_size,
            notes=notes,
        )

    def pixels(self, page: int, *, mask: bool = False) -> NDArray[np.generic]:
        with refusing():
            (sections, height, width), dtype, start, _, _ = self._read_facts()
            if not 0 <= page < sections:
                raise IndexError(page)
            self._file.seek(start + page * height * width * dtype.itemsize)
            flat = np.fromfile(self._file, dtype, count=height * width)
            return flat.reshape(height, width).astype(dtype.newbyteorder("="), copy=False)

    def _read_facts(
        self,
    ) -> tuple[tuple[int, int, int], np.dtype[np.generic], int, float | None, tuple[str, ...]]:
        """Sections, rows and columns; type; where the pixels begin; nanometres per pixel; notes. Raises Refused."""
        if self._facts is None:
            self._file.seek(0)
            header = _header_of(self._file.read(START))
            mode = int(header.mode)
            if mode not in _MODES:
                kind = _OTHERS.get(mode, f"mode {mode}")
                raise Refused(f"Its pixels are {kind}.", "Save it as 8 or 16 bits (newstack -mode 1), then add that.")
            dtype = mrcfile.utils.data_dtype_from_header(header)
            if mode == 0 and _is_unsigned(header):
                dtype = np.dtype(np.uint8)
            shape = int(header.nz), int(header.ny), int(header.nx)
            start = START + int(header.nsymbt)
            if min(shape) < 1:
                raise Refused("The image has no pixels.", AGAIN)
            if int(header.nsymbt) < 0 or self._size - start < math.prod(shape) * dtype.itemsize:
                raise Refused(
                    f"Its header says {shape[0]:,} sections of {shape[2]:,} x {shape[1]:,} px, and the file ends "
                    "before them.",
                    AGAIN,
                )
            self._facts = shape, dtype, start, _pixel_size(header), _notes(header)
        return self._facts


def _header_of(start: bytes) -> np.recarray:
    """The header in the fields of the reference reader, in the byte order that gives valid values.

    Only these bytes are read: the extended header after them may have any length and is not needed.
    """
    if len(start) < START:
        raise ValueError("too short")
    little, big = (fields[3] in (*_MODES, *_OTHERS) for fields in _both_orders(start))
    order = "<" if little or not big else ">"
    fields = np.dtype(mrcfile.dtypes.HEADER_DTYPE).newbyteorder(order)
    header: np.recarray = np.frombuffer(start, fields, count=1).reshape(()).view(np.recarray)
    return header


def _pixel_size(header: np.recarray) -> float | None:
    """Nanometres per pixel along the columns: the cell's length over its number of grid points on that axis."""
    axis = {1: "x", 2: "y", 3: "z"}.get(int(header.mapc), "x")
    points = int(header["m" + axis])
    length = float(header.cella[axis])
    return length / points / _ANGSTROMS if points > 0 and length > 0 else None


def _notes(header: np.recarray) -> tuple[str, ...]:
    axes = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))
    if axes in ((1, 2, 3), (0, 0, 0)):
        return ()
    return ("Its axes are permuted; its sections are read as they stand in the file.",)


def _is_unsigned(header: np.recarray) -> bool:
    """Mode 0 is signed by the standard. IMOD marks unsigned bytes by a flag, older programs only by the value range."""
    order = ">" if header.mode.dtype.byteorder == ">" else "<"
    stamp, flags = struct.unpack(f"{order}ii", header.tobytes()[152:160])
    if stamp == _IMOD:
        return not flags & 1
    return float(header.dmin) >= 0 and float(header.dmax) > 127


def _both_orders(start: bytes) -> list[tuple[int, ...]]:
    return [struct.unpack(order + "4i", start[:16]) for order in "<>"]
