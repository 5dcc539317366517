"""Assigns items to batches. Nothing here imports torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class ResumableSampler:
    """Shuffled batches as a pure function of seed and step: a resumed run needs no memory of where it was.

    Each epoch is one permutation of all items, seeded by (seed, epoch). With `drop_last`, the items that do not fill
    a batch are left out of that epoch (others are in the next); without, the last batch is smaller. A dataset smaller
    than one batch makes one batch of all it has.
    """

    def __init__(self, count: int, *, batch_size: int, seed: int, drop_last: bool = True) -> None:
        if count < 1 or batch_size < 1:
            raise ValueError(f"no batches of {batch_size} can be made of {count} items")
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        full, rest = divmod(count, self.batch_size)
        self.steps_per_epoch = full if drop_last or not rest else full + 1
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)

    def batch(self, step: int) -> NDArray[np.int64]:
        """The positions of the items of step `step` (counted from 1), of shape (B,)."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            self._epoch = epoch
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]
