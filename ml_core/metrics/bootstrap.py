"""Bootstrap confidence intervals over groups (stacks, volumes, animals). Imports no torch.

Slices of a stack are not independent: resampling single images would give intervals that are too narrow. So whole
groups are resampled (percentile bootstrap; Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST_GROUPS = 5
"""With fewer groups, an interval is meaningless."""
RESAMPLES = 2000


def over_groups(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    counts: NDArray[np.int64],
    groups: Sequence[str],
    seed: int,
    level: float = 0.95,
) -> list[float] | None:
    """The interval [low, high] that holds `level` of the resampled values; None with fewer than 5 groups.

    `counts` (N, ...) holds each image's contribution to the sum (a confusion matrix, hits and trials), `groups` (N,)
    names their groups. `statistic` maps sums (R, ...) of counts to R values, NaN where there is nothing to measure;
    such resamples are left out. The same seed gives the same interval.
    """
    names, of_image = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return None
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    by_group = np.zeros((len(names), flat.shape[1]))
    np.add.at(by_group, of_image, flat)
    drawn = np.random.default_rng((seed, 4)).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    figures = statistic((drawn @ by_group).reshape(RESAMPLES, *counts.shape[1:]))
    figures = figures[np.isfinite(figures)]
    if not len(figures):
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(figures, [tail, 1 - tail])
    return [float(low), float(high)]
