"""Images that look the same are found across sides; those that do not are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ml_core.data import synthetic
from ml_core.imaging.perceptual_hash import ALIKE, CROWD, difference_hash, near_duplicates_across


def _micrograph(seed: int) -> np.ndarray:
    return synthetic.micrograph(seed, size=128)[0]


def _distance(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def test_the_same_picture_saved_otherwise_keeps_its_bits_and_another_does_not() -> None:
    picture = _micrograph(1)
    bits = difference_hash(picture)
    smaller = np.asarray(Image.fromarray(picture).resize((97, 97), Image.Resampling.BILINEAR))
    flatter = (picture * 0.6 + 40).astype(np.uint8)
    assert _distance(bits, difference_hash(smaller)) <= ALIKE
    assert _distance(bits, difference_hash(flatter)) <= ALIKE
    others = [_distance(bits, difference_hash(_micrograph(seed))) for seed in range(2, 12)]
    assert min(others) > 2 * ALIKE


def test_a_picture_of_one_grey_has_no_bits() -> None:
    assert difference_hash(np.full((50, 60), 7, np.uint8)) == ""
    assert near_duplicates_across(["", "", ""], [1, 2, 3]) == []


def test_pairs_are_found_across_sides_only() -> None:
    base = 0x0123456789ABCDEF
    near, far = base ^ 0b111 << 20, base ^ 0b1111 << 20
    bits = [f"{value:016x}" for value in (base, base, near, far, base)]
    assert near_duplicates_across(bits, [1, 1, 2, 2, 0]) == [(0, 2), (1, 2)]
    assert near_duplicates_across(bits, [1, 1, 1, 1, 1]) == []


@pytest.mark.parametrize("count", [300, CROWD + 200])
def test_every_planted_pair_is_found_among_many(count: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 2**63, count, dtype=np.uint64) | np.uint64(1 << 63)
    sides = [1] * (count // 2) + [2] * (count - count // 2)
    planted = []
    for n in range(20):
        flips = sum(1 << int(bit) for bit in rng.choice(63, size=n % (ALIKE + 1), replace=False))
        values[count - 1 - n] = values[n] ^ np.uint64(flips)
        planted.append((n, count - 1 - n))
    found = near_duplicates_across([f"{value:016x}" for value in values.tolist()], sides)
    assert set(planted) <= set(found)


def test_a_crowd_of_equal_bits_is_compared_without_comparing_all_with_all() -> None:
    bits = ["00ff00ff00ff00ff"] * (CROWD + 10)
    sides = [1] * 5 + [2] * (CROWD + 5)
    assert near_duplicates_across(bits, sides)
