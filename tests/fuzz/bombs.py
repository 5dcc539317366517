"""Small files that claim to be huge, or become so when they are unpacked. Name -> content."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tifffile

from tests.fuzz.corpus import GREY, npy, picture, tarred, tiff, zipped

ZEROS = 300 * 2**20


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, data: bytes = b"", extra: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + (chunk(b"IDAT", data) if data else b"") + chunk(b"IEND", b"")


def packed_zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(count // 2**20)) + packer.flush()


def pngs() -> dict[str, bytes]:
    zeros = packed_zeros(ZEROS)
    profile = chunk(b"iCCP", b"x\0\0" + zeros)
    text = chunk(b"zTXt", b"x\0\0" + zeros)
    return {
        "square.png": png(100_000, 100_000),
        "largest.png": png(2**31 - 1, 2**31 - 1),
        "wide.png": png(2**31 - 1, 1),
        "high.png": png(1, 2**31 - 1),
        "bits.png": png(60_000, 60_000, bits=1),
        "deep.png": png(65_535, 65_535, bits=16, colour=6),
        "just-too-large.png": png(21_214, 21_214, data=zeros),
        "colours.png": png(14_000, 14_000, colour=6, data=zeros),
        "deep-zeros.png": png(14_000, 14_000, bits=16, data=zeros),
        "palette.png": png(50_000, 50_000, colour=3),
        "profile.png": png(40, 40, extra=profile),
        "text.png": png(40, 40, extra=text * 3),
        "nothing.png": png(0, 0),
    }


def jpegs() -> dict[str, bytes]:
    whole = bytearray(picture(GREY, "JPEG"))
    at = whole.index(b"\xff\xc0") + 5

    def sized(height: int, width: int) -> bytes:
        whole[at : at + 4] = struct.pack(">HH", height, width)
        return bytes(whole)

    return {
        "square.jpg": sized(65_535, 65_535),
        "wide.jpg": sized(20_000, 65_500),
        "cut.jpg": sized(14_000, 14_000)[:400],
        "flat.jpg": sized(0, 65_500),
    }


def tagged(folder: Path, content: bytes, tags: Mapping[str, int]) -> bytes:
    path = folder / "made.tif"
    path.write_bytes(content)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, value in tags.items():
            file.pages[0].tags[name].overwrite(value)
    return path.read_bytes()


def tiffs(folder: Path) -> dict[str, bytes]:
    huge = {"ImageWidth": 60_000, "ImageLength": 60_000, "RowsPerStrip": 60_000}
    large = {"ImageWidth": 14_000, "ImageLength": 14_000, "RowsPerStrip": 14_000}
    tiled = tiff(GREY, tile=(16, 16))
    deep = tiff(GREY.astype(np.uint16), compression="zlib")
    many = io.BytesIO()
    with tifffile.TiffWriter(many) as writer:
        for _ in range(4200):
            writer.write(np.zeros((1, 1), np.uint8), contiguous=False, metadata=None)
    circle = bytearray(tiff(GREY, metadata=None))
    first = struct.unpack_from("<I", circle, 4)[0]
    next_at = first + 2 + 12 * struct.unpack_from("<H", circle, first)[0]
    circle[next_at : next_at + 4] = struct.pack("<I", first)
    far = bytearray(tiff(GREY, bigtiff=True))
    far[8:16] = struct.pack("<Q", 2**60)
    return {
        "deflate.tif": tagged(folder, tiff(GREY, compression="zlib"), huge),
        "lzw.tif": tagged(folder, tiff(GREY, compression="lzw"), huge),
        "zstd.tif": tagged(folder, tiff(GREY, compression="zstd"), huge),
        "plain.tif": tagged(folder, tiff(GREY), huge),
        "jpeg.tif": tagged(folder, tiff(GREY, compression="jpeg"), huge),
        "ratio.tif": tagged(folder, deep, large),
        "tiles.tif": tagged(folder, tiled, {"TileWidth": 16_368, "TileLength": 16_368}),
        "many-tiles.tif": tagged(folder, tiled, {"ImageWidth": 14_000, "ImageLength": 14_000}),
        "no-tiles.tif": tagged(folder, tiled, {"TileWidth": 0}),
        "samples.tif": tagged(folder, tiff(GREY), {"SamplesPerPixel": 60_000}),
        "codec.tif": tagged(folder, tiff(GREY), {"Compression": 50_001}),
        "pages.tif": many.getvalue(),
        "circle.tif": bytes(circle),
        "far.tif": bytes(far),
        "complex.tif": tiff(GREY.astype(np.complex64)),
    }


def mrcs() -> dict[str, bytes]:
    def header(nx: int, ny: int, nz: int, *, mode: int = 2, more: int = 0) -> bytes:
        head = bytearray(1024)
        head[:16] = struct.pack("<4i", nx, ny, nz, mode)
        head[92:96] = struct.pack("<i", more)
        head[208:216] = b"MAP DD\0\0"
        return bytes(head) + bytes(4096)

    return {
        "square.mrc": header(2**31 - 1, 2**31 - 1, 2**31 - 1),
        "large.mrc": header(14_000, 14_000, 1),
        "sections.mrc": header(1, 1, 1000, mode=0, more=2**31 - 1),
        "many.mrc": header(1, 1, 4097, mode=0, more=-3000),
        "negative.mrc": header(-5, 5, 5),
        "four-bits.mrc": header(32, 32, 1, mode=101),
    }


def npys(folder: Path) -> dict[str, bytes]:
    def header(text: str) -> bytes:
        body = text.encode().ljust(118) + b"\n"
        return b"\x93NUMPY\x01\0" + struct.pack("<H", len(body)) + body

    def shaped(shape: str, kind: str = "|u1", order: str = "False") -> bytes:
        return header(f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}") + bytes(64)

    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return Path.touch, (str(folder / "executed"),)  # type: ignore[return-value]

    trap = shaped("()", "|O")[:-64] + pickle.dumps(Trap())
    return {
        "square.npy": shaped("(1000000, 1000000)"),
        "endless.npy": shaped(f"({2**62}, {2**62})"),
        "negative.npy": shaped("(-1, -1)"),
        "dimensions.npy": shaped("(" + "1, " * 18 + ")"),
        "pickle.npy": trap,
        "record.npy": header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 4), }") + bytes(64),
        "columns.npy": npy(np.asfortranarray(GREY)),
        "code.npy": header("{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (4, 4), }"),
    }


def zips() -> dict[str, bytes]:
    zeros = bytes(20 * 2**20)
    lying = bytearray(zipped({"a.tif": zeros}))
    at = lying.rfind(b"PK\x01\x02")
    lying[at + 24 : at + 28] = struct.pack("<I", 3 * 10**9)
    one = zipped({"a.png": picture(GREY, "PNG")})
    overlap = bytearray(zipped({"a.png": GREY.tobytes(), "b.png": GREY.tobytes()}))
    second = overlap.rfind(b"PK\x01\x02")
    overlap[second + 42 : second + 46] = struct.pack("<I", 0)
    small = bytearray(zipped({"a.tif": tiff(GREY)}))
    at = small.rfind(b"PK\x01\x02")
    small[at + 24 : at + 28] = struct.pack("<I", 100)
    return {
        "lying.zip": bytes(lying),
        "million.zip": b"PK\x03\x04"
        + bytes(100)
        + b"PK\x05\x06"
        + struct.pack("<HHHHIIH", 0, 0, 65534, 65534, 2**31, 0, 0),
        "overlap.zip": bytes(overlap),
        "nested.zip": zipped({"inner.zip": one, "deeper.tar.gz": gzip.compress(one)}),
        "arrays.zip": zipped({"inner.npz": one}),
        "lzma.zip": zipped({"a.png": picture(GREY, "PNG")}, method=zipfile.ZIP_LZMA),
        "deep.zip": zipped({"d/" * 30_000 + "a.png": picture(GREY, "PNG")}),
        "short.zip": bytes(small),
        "zeros.zip": zipped({"a.tif": zeros}),
    }


def tars() -> dict[str, bytes]:
    def entry(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
        info = tarfile.TarInfo(name)
        info.size, info.type = size, kind
        return info.tobuf(tarfile.GNU_FORMAT)

    def packed(content: bytes) -> bytes:
        return gzip.compress(content, mtime=0)

    zeros = gzip.compress(entry("a.tif", 2**40) + bytes(2**20), mtime=0)
    negative = bytearray(entry("a.png", 0))
    negative[124:136] = b"\xff" * 11 + b"\0"
    negative[148:156] = b" " * 8
    negative[148:156] = b"%06o\0 " % sum(negative[:512])
    empty = io.BytesIO()
    with gzip.GzipFile(fileobj=empty, mode="wb", mtime=0) as file:
        for number in range(30_000):
            file.write(entry(f"{number}.png", 0))
    return {
        "declared.tar.gz": zeros,
        "declared.tar": entry("a.tif", 2**40),
        "folder.tar.gz": packed(entry("a/", 2**40, tarfile.DIRTYPE)),
        "negative.tar": bytes(negative) + bytes(2048),
        "endless-name.tar": entry("x", 2**33, tarfile.GNUTYPE_LONGNAME) + bytes(4096),
        "endless-header.tar.gz": packed(entry("x", 2**33, tarfile.XHDTYPE) + bytes(4096)),
        "headers.tar.gz": packed(entry("x", 0, tarfile.XHDTYPE) * 30_000),
        "sparse.tar": entry("a.tif", 2**40, tarfile.GNUTYPE_SPARSE) + bytes(4096),
        "empty.tar.gz": empty.getvalue(),
        "gzip-in-gzip.tar.gz": packed(packed(tarred({"a.png": picture(GREY, "PNG")}))),
        "long-line.csv": b"file,label\n" + b"a" * 2**20,
        "no-text.csv": b"file,label\n" + bytes(2**16),
    }


def all_bombs(folder: Path) -> dict[str, bytes]:
    return {**pngs(), **jpegs(), **tiffs(folder), **mrcs(), **npys(folder), **zips(), **tars()}
