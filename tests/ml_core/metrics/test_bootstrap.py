"""Intervals over groups: of whole stacks, the same for the same seed, and none where there are too few."""

from __future__ import annotations

import numpy as np
import pytest

from ml_core.metrics.bootstrap import RESAMPLES, over_groups


def _share(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1])


def test_it_is_the_percentile_bootstrap_of_whole_groups() -> None:
    chance = np.random.default_rng(3)
    counts = np.stack([chance.integers(0, 50, 40), np.full(40, 50)], axis=1)
    groups = [f"stack {n % 8}" for n in range(40)]
    low, high = over_groups(_share, counts=counts, groups=groups, seed=1) or (0, 0)
    # One by one, the slow way, with chance of its own: the ends agree to what 2,000 resamples can tell.
    names = sorted(set(groups))
    figures = []
    for _ in range(RESAMPLES):
        drawn = chance.choice(names, len(names))
        figures.append(_share(sum(counts[[g == name for g in groups]].sum(axis=0) for name in drawn)[None])[0])
    assert (low, high) == pytest.approx(np.quantile(figures, [0.025, 0.975]), abs=0.015)
    assert low < counts[:, 0].sum() / counts[:, 1].sum() < high


def test_images_of_one_group_are_drawn_together_so_the_interval_is_wider() -> None:
    """Eight stacks of 20 alike slices hold eight answers, not 160."""
    chance = np.random.default_rng(0)
    hits = np.repeat(chance.integers(10, 90, 8), 20)
    counts = np.stack([hits, np.full(160, 100)], axis=1)
    by_stack = over_groups(_share, counts=counts, groups=[str(n // 20) for n in range(160)], seed=0)
    by_image = over_groups(_share, counts=counts, groups=[str(n) for n in range(160)], seed=0)
    assert by_stack is not None
    assert by_image is not None
    assert by_stack[1] - by_stack[0] > 3 * (by_image[1] - by_image[0])


def test_under_five_groups_there_is_none() -> None:
    counts = np.ones((12, 2), np.int64)
    assert over_groups(_share, counts=counts, groups=[str(n % 4) for n in range(12)], seed=0) is None
    assert over_groups(_share, counts=counts, groups=[str(n % 5) for n in range(12)], seed=0) == [1.0, 1.0]


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    counts = np.stack([np.arange(30), np.full(30, 30)], axis=1)
    groups = [str(n % 10) for n in range(30)]
    one, again, other = (over_groups(_share, counts=counts, groups=groups, seed=seed) for seed in (5, 5, 6))
    assert one == again != other


def test_resamples_with_nothing_to_measure_are_left_out() -> None:
    counts = np.zeros((6, 2), np.int64)
    assert over_groups(_share, counts=counts, groups=list("abcdef"), seed=0) is None
    counts[0] = (3, 4)
    assert over_groups(_share, counts=counts, groups=list("abcdef"), seed=0) == [0.75, 0.75]
