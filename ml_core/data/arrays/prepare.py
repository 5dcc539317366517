"""Converts the images and masks of a manifest to memory-mapped uint8 arrays that all jobs share. Imports no torch.

Each array is built once, under a lock and a temporary name, and stored under a key of the manifest's hash and the
preparation's settings. A job that needs an array while another builds it waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_core.data.arrays.prefetch import ordered_map
from ml_core.data.formats import readers
from ml_core.data.manifests.manifest import FileRef, Manifest, ManifestItem
from ml_core.errors import UserError
from ml_core.imaging.mask_values import only_value

VERSION = 1
"""Part of every key: increased when the preparation changes, so that the same manifest gives other pixels."""

Progress = Callable[[int, int], None]
"""Called as (done, total). It may raise to stop: no unfinished array is left behind."""


@dataclass(frozen=True)
class Prepared:
    """Images (N, size, size), masks of one layer, or photographs (N, size, size, 3); in manifest order.

    `array` is uint8, mapped into memory and read-only.

    `present` (N,) is False for items that have no mask in the layer (rows of zeros); all True for images.
    """

    array: NDArray[np.uint8]
    present: NDArray[np.bool_]
    key: str

    def __len__(self) -> int:
        return len(self.array)


class Whole:
    """Like `Prepared`, but each item at its own size: `whole[i]` is (H, W), a view of one flat array.

    `shapes` (N, 2) holds heights and widths, 0 for items that have no mask in the layer.
    """

    def __init__(
        self, flat: NDArray[np.uint8], *, shapes: NDArray[np.int64], present: NDArray[np.bool_], key: str
    ) -> None:
        self.flat = flat
        self.shapes = shapes
        self.present = present
        self.key = key
        self._starts = _starts_of(shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        height, width = (int(n) for n in self.shapes[position])
        start = int(self._starts[position])
        return self.flat[start : start + height * width].reshape(height, width)


def prepare(
    manifest: Manifest, *, blobs: Path | None, root: Path, size: int, progress: Progress | None = None
) -> Prepared:
    """All images, low..high scaled to 0..255, each resized to `size` x `size` (bilinear, antialiased)."""

    def fill(position: int, out: NDArray[np.uint8]) -> None:
        out[:] = resized(read_image(manifest.items[position], blobs=blobs), size=size)

    return _square(manifest, "images", size=size, root=root, chosen=range(len(manifest)), fill=fill, progress=progress)


def prepare_colour(
    manifest: Manifest, *, blobs: Path | None, root: Path, size: int, progress: Progress | None = None
) -> Prepared:
    """All images as sRGB photographs, (N, size, size, 3): like `prepare`, but in colour."""

    def fill(position: int, out: NDArray[np.uint8]) -> None:
        out[:] = resized(read_colour(manifest.items[position], blobs=blobs), size=size)

    return _square(
        manifest, "colour", size=size, root=root, chosen=range(len(manifest)), fill=fill, progress=progress, channels=3
    )


def prepare_masks(
    manifest: Manifest, layer: str, *, blobs: Path | None, root: Path, size: int, progress: Progress | None = None
) -> Prepared:
    """The masks of one layer, class values kept, each resized to `size` x `size` by the nearest pixel."""

    def fill(position: int, out: NDArray[np.uint8]) -> None:
        mask = read_mask(manifest.items[position], layer, blobs=blobs)
        assert mask is not None, "only items with a mask are chosen"
        out[:] = resized_mask(mask, size=size)

    chosen = [n for n, item in enumerate(manifest.items) if layer in item.masks]
    return _square(manifest, f"masks/{layer}", size=size, root=root, chosen=chosen, fill=fill, progress=progress)


def prepare_whole(manifest: Manifest, *, blobs: Path | None, root: Path, progress: Progress | None = None) -> Whole:
    """All images at their own size, low..high scaled to 0..255: the source of crops at full resolution."""

    def fill(position: int, out: NDArray[np.uint8]) -> None:
        out[:] = read_image(manifest.items[position], blobs=blobs).reshape(-1)

    return _ragged(manifest, "whole-images", root=root, chosen=range(len(manifest)), fill=fill, progress=progress)


def prepare_whole_masks(
    manifest: Manifest, layer: str, *, blobs: Path | None, root: Path, progress: Progress | None = None
) -> Whole:
    """The masks of one layer at their own size, class values kept."""

    def fill(position: int, out: NDArray[np.uint8]) -> None:
        mask = read_mask(manifest.items[position], layer, blobs=blobs)
        assert mask is not None, "only items with a mask are chosen"
        out[:] = mask.reshape(-1)

    chosen = [n for n, item in enumerate(manifest.items) if layer in item.masks]
    return _ragged(manifest, f"whole-masks/{layer}", root=root, chosen=chosen, fill=fill, progress=progress)


def read_image(item: ManifestItem, *, blobs: Path | None) -> NDArray[np.uint8]:
    """One image at its own size, (H, W), low..high scaled to 0..255. Raises UserError where its file is missing."""
    with _of_item(item, item.image, blobs) as path:
        pixels = readers.windowed(readers.read(path, page=item.image.page), low=item.low, high=item.high)
        return _checked(pixels, item)


def read_colour(item: ManifestItem, *, blobs: Path | None) -> NDArray[np.uint8]:
    """One image at its own size as RGB (H, W, 3), low..high scaled to 0..255. Raises UserError without its file."""
    with _of_item(item, item.image, blobs) as path:
        pixels = readers.windowed(readers.read_colour(path, page=item.image.page), low=item.low, high=item.high)
        return _checked(pixels, item)


def read_mask(item: ManifestItem, layer: str, *, blobs: Path | None) -> NDArray[np.uint8] | None:
    """One mask at its image's size, (H, W), class values kept; None where the item has none in this layer."""
    if layer not in item.masks:
        return None
    ref = item.masks[layer]
    with _of_item(item, ref, blobs) as path:
        mask = readers.read_mask(path, page=ref.page)
        return _checked(mask if ref.only is None else only_value(mask, ref.only), item)


def resized(pixels: NDArray[np.uint8], *, size: int) -> NDArray[np.uint8]:
    """Resizes (H, W) or (H, W, 3) to (size, size), bilinear over the area of each output pixel (antialiased)."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def resized_mask(mask: NDArray[np.uint8], *, size: int) -> NDArray[np.uint8]:
    """Resizes (H, W) to (size, size) by the nearest pixel: class values are never mixed."""
    if mask.shape == (size, size):
        return mask
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def _square(
    manifest: Manifest,
    what: str,
    *,
    size: int,
    root: Path,
    chosen: Sequence[int],
    fill: Callable[[int, NDArray[np.uint8]], None],
    progress: Progress | None,
    channels: int | None = None,
) -> Prepared:
    key = _key(manifest, f"{what}/{size}")
    shape = (len(manifest), size, size) + (() if channels is None else (channels,))
    array = _built(root, key, shape=shape, chosen=chosen, place=lambda rows, n: rows[n], fill=fill, progress=progress)
    return Prepared(array, _present(len(manifest), chosen), key)


def _ragged(
    manifest: Manifest,
    what: str,
    *,
    root: Path,
    chosen: Sequence[int],
    fill: Callable[[int, NDArray[np.uint8]], None],
    progress: Progress | None,
) -> Whole:
    key = _key(manifest, what)
    present = _present(len(manifest), chosen)
    shapes = np.array([(item.height, item.width) for item in manifest.items], np.int64).reshape(-1, 2)
    shapes[~present] = 0
    starts = _starts_of(shapes)

    def place(flat: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
        return flat[int(starts[n]) : int(starts[n]) + int(shapes[n].prod())]

    shape = (int(shapes.prod(axis=1).sum()),)
    flat = _built(root, key, shape=shape, chosen=chosen, place=place, fill=fill, progress=progress)
    return Whole(flat, shapes=shapes, present=present, key=key)


def _built(
    root: Path,
    key: str,
    *,
    shape: tuple[int, ...],
    chosen: Sequence[int],
    place: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]],
    fill: Callable[[int, NDArray[np.uint8]], None],
    progress: Progress | None,
) -> NDArray[np.uint8]:
    """The array of `key`, built now if no job has built it before."""
    path = root / f"{key}.npy"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{key}.lock"):
            if not path.exists():
                _build(path, shape=shape, chosen=chosen, place=place, fill=fill, progress=progress)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r" if 0 not in shape else None, allow_pickle=False)
    if mapped.shape != shape or mapped.dtype != np.uint8:
        raise UserError(f"{path} holds another array than its name says. Delete it; it is made again at the next run.")
    return mapped


def _build(
    path: Path,
    *,
    shape: tuple[int, ...],
    chosen: Sequence[int],
    place: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]],
    fill: Callable[[int, NDArray[np.uint8]], None],
    progress: Progress | None,
) -> None:
    temporary = path.with_suffix(".tmp")  # One name is enough under the lock, and what a killed job left is reused.
    try:
        with open(temporary, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            _reserve(file.fileno(), file.tell() + int(np.prod(shape)))
        rows = np.lib.format.open_memmap(temporary, mode="r+") if 0 not in shape else np.zeros(shape, np.uint8)
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            jobs = (lambda n=n: fill(n, place(rows, n)) for n in chosen)
            for done, _ in enumerate(ordered_map(pool, jobs), start=1):
                if progress is not None:
                    progress(done, len(chosen))
        if isinstance(rows, np.memmap):
            rows.flush()
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _reserve(descriptor: int, size: int) -> None:
    """Allocates the disk space now: a full disk is an error here, but a crash when a mapped page is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for the lock; the kernel frees it when its holder exits or dies."""
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _of_item(item: ManifestItem, ref: FileRef, blobs: Path | None) -> Iterator[Path]:
    path = ref.locate(blobs)
    try:
        yield path
    except FileNotFoundError as error:
        raise UserError(
            f"The file of {item.name} is missing: there is no {path}. Restore it from a backup, or remove the image "
            "from the dataset."
        ) from error
    except readers.Refused as refused:
        raise UserError(f"{item.name} cannot be read. {refused}") from refused


def _checked(pixels: NDArray[np.uint8], item: ManifestItem) -> NDArray[np.uint8]:
    if pixels.shape[:2] != (item.height, item.width):
        raise UserError(
            f"A file of {item.name} is {pixels.shape[1]:,} x {pixels.shape[0]:,} px, and the dataset says "
            f"{item.width:,} x {item.height:,}. Add the image and its mask again, at one size."
        )
    return pixels


def _key(manifest: Manifest, what: str) -> str:
    assert manifest.sha256, "a manifest without a hash cannot be told from another"
    return hashlib.sha256(f"{VERSION}/{manifest.sha256}/{what}".encode()).hexdigest()[:40]


def _present(count: int, chosen: Sequence[int]) -> NDArray[np.bool_]:
    present = np.zeros(count, np.bool_)
    present[np.asarray(chosen, np.int64)] = True
    return present


def _starts_of(shapes: NDArray[np.int64]) -> NDArray[np.int64]:
    ends = shapes.prod(axis=1).cumsum()
    return np.concatenate([np.zeros(1, np.int64), ends])[:-1] if len(ends) else ends
