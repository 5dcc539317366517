"""Finds near duplicates by a 64-bit perceptual hash that intake stores of each image. Imports no torch.

Each bit states, on a grid of 8 x 8, whether brightness increases to the right (N. Krawetz's difference hash). A change
of contrast, size or compression keeps nearly all bits; a neighbouring slice changes some, another field of view about
half.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ALIKE = 3
"""Near duplicates differ in at most this many bits."""
FLAT = 8
"""A picture with fewer bits set, or unset, is nearly all one grey: its hash is not used."""
CROWD = 4096
"""Where more images than this share a quarter of their bits, only equal hashes are matched."""


def difference_hash(pixels: NDArray[np.uint8]) -> str:
    """The bits of an image (H, W) uint8, as 16 hexadecimal digits; empty for one that is nearly flat."""
    small = np.asarray(Image.fromarray(pixels).resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (small[:, 1:] > small[:, :-1]).reshape(-1)
    if not FLAT <= int(bits.sum()) <= 64 - FLAT:
        return ""
    return np.packbits(bits).tobytes().hex()


def near_duplicates_across(bits: Sequence[str], sides: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of positions (i, j) in different parts of a split whose hashes differ in at most ALIKE bits.

    `sides` numbers the part of each image; images of part 0, or without a hash, are skipped. For each image, the first
    match in each other part is returned. Two hashes that differ in 3 of 64 bits agree in at least one of 4 quarters,
    so only those that share a quarter are compared: half a million images in seconds.
    """
    known = [n for n, (b, s) in enumerate(zip(bits, sides, strict=True)) if b and s]
    if len(known) < 2:
        return []
    hashes = np.frombuffer(bytes.fromhex("".join(bits[n] for n in known)), ">u8").astype(np.uint64)
    side = np.asarray([sides[n] for n in known])
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for quarter in range(4):
        key = (hashes >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        for group in np.split(order, edges):
            if len(group) > 1 and len(np.unique(side[group])) > 1:
                _pairs_in(group, hashes=hashes, side=side, found=found)
    pairs = {(int(min(a, b)), int(max(a, b))) for a, b in found.values()}
    return sorted((known[a], known[b]) for a, b in pairs)


def _pairs_in(
    group: NDArray[np.int64],
    *,
    hashes: NDArray[np.uint64],
    side: NDArray[np.int64],
    found: dict[tuple[int, int], tuple[int, int]],
) -> None:
    """Adds to `found`, by (image, other part), the first matching pair of each image of `group`."""
    if len(group) > CROWD:  # Blank and cut-off images collect here; comparing all with all would take too long.
        group = group[np.argsort(hashes[group], kind="stable")]
        neighbours = zip(group[:-1].tolist(), group[1:].tolist(), strict=True)
        near = ((a, [b]) for a, b in neighbours if hashes[a] == hashes[b])
    else:
        distance = np.bitwise_count(hashes[group][:, None] ^ hashes[group][None, :])
        close = np.triu(distance <= ALIKE, k=1)
        near = ((int(group[n]), group[np.flatnonzero(close[n])].tolist()) for n in np.flatnonzero(close.any(axis=1)))
    for a, others in near:
        for b in others:
            if side[a] != side[b]:
                found.setdefault((a, int(side[b])), (a, b))
                found.setdefault((b, int(side[a])), (a, b))
