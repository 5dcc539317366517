"""Good files of every format that is read, small, and what breaks them."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import mrcfile
import numpy as np
import tifffile
from PIL import Image

GREY = np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint8)
SMOOTH = np.asarray(Image.fromarray(GREY[::8, ::8]).resize((64, 48), Image.Resampling.BICUBIC))
DEEP = SMOOTH.astype(np.uint16) * 200 + 3000
STACK = np.stack([np.roll(DEEP, n, axis=0) for n in range(4)])
MASK = np.where(SMOOTH > 140, 255, 0).astype(np.uint8)


def picture(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def npy(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    return buffer.getvalue()


def mrc(pixels: np.ndarray, folder: Path) -> bytes:
    with mrcfile.new(folder / "made.mrc", overwrite=True) as file:
        file.set_data(pixels)
        file.voxel_size = 12.5
    return (folder / "made.mrc").read_bytes()


def zipped(files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], *, kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def images(folder: Path) -> dict[str, bytes]:
    """Name -> content. `folder` is for a writer that wants a path."""
    return {
        "grey.png": picture(GREY, "PNG"),
        "deep.png": picture(DEEP, "PNG"),
        "colour.png": picture(np.stack([GREY, MASK, SMOOTH], axis=-1), "PNG"),
        "grey.jpg": picture(SMOOTH, "JPEG"),
        "colour.jpg": picture(np.stack([SMOOTH, MASK, SMOOTH], axis=-1), "JPEG"),
        "grey.tif": tiff(GREY),
        "bits.tif": tiff(MASK > 0),
        "deep.tif": tiff(DEEP, byteorder=">"),
        "float.tif": tiff(DEEP.astype(np.float32) / 7),
        "lzw.tif": tiff(GREY, compression="lzw", predictor=True),
        "deflate.tif": tiff(DEEP, compression="zlib"),
        "zstd.tif": tiff(DEEP, compression="zstd"),
        "jpeg.tif": tiff(SMOOTH, compression="jpeg"),
        "tiled.tif": tiff(DEEP, tile=(16, 16), compression="zlib"),
        "big.tif": tiff(STACK, bigtiff=True, photometric="minisblack"),
        "imagej.tif": tiff(STACK, imagej=True, metadata={"axes": "ZYX", "unit": "um"}, resolution=(200, 200)),
        "ome.ome.tif": tiff(STACK, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 8, "PhysicalSizeXUnit": "nm"}),
        "volume.mrc": mrc(STACK, folder),
        "floats.mrc": mrc(STACK.astype(np.float32), folder),
        "stack.npy": npy(STACK),
        "one.npy": npy(SMOOTH),
    }


def archives(folder: Path) -> dict[str, bytes]:
    files = {
        "set/images/a.png": picture(GREY, "PNG"),
        "set/images/b.tif": tiff(DEEP),
        "set/masks/a.png": picture(MASK, "PNG"),
        "set/labels.csv": b"file,label,split\nimages/a.png,mouse,train\nb,human,test\n",
        "set/README.md": b"about",
    }
    plain = tarred(files)
    return {
        "set.zip": zipped(files),
        "stored.zip": zipped(files, method=zipfile.ZIP_STORED),
        "set.tar": plain,
        "gnu.tar": tarred(
            {"x" * 120 + "/" + name: content for name, content in files.items()}, kind=tarfile.GNU_FORMAT
        ),
        "set.tar.gz": gzip.compress(plain, mtime=0),
        "volume.zip": zipped({"volume.mrc": mrc(STACK, folder), "stack.npy": npy(STACK)}),
    }


def mutated(content: bytes, chance: np.random.Generator, *, others: list[bytes]) -> bytes:
    """The file with one to three things wrong with it."""
    broken = bytearray(content)
    for _ in range(int(chance.integers(1, 4))):
        if not broken:
            break
        kind = int(chance.integers(0, 8))
        # Headers stand at the beginning, and of zips and some TIFFs at the end: half of all harm is done there.
        near = int(chance.choice([64, 512, len(broken)]))
        at = int(chance.integers(0, min(near, len(broken))))
        if chance.random() < 0.15:
            at = len(broken) - 1 - at
        if kind == 0:
            broken[at] ^= 1 << int(chance.integers(0, 8))
        elif kind == 1:
            broken[at : at + 4] = chance.integers(0, 256, 4).astype(np.uint8).tobytes()
        elif kind == 2:
            broken[at : at + 4] = bytes(
                chance.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80"])
            )
        elif kind == 3:
            del broken[at:]
        elif kind == 4:
            del broken[at : at + int(chance.integers(1, 64))]
        elif kind == 5:
            broken[at:at] = chance.integers(0, 256, int(chance.integers(1, 64))).astype(np.uint8).tobytes()
        elif kind == 6:
            other = others[int(chance.integers(0, len(others)))]
            broken[at:] = other[int(chance.integers(0, max(1, len(other)))) :]
        else:
            broken[at : at + 64] = broken[: len(broken[at : at + 64])]
    return bytes(broken)
