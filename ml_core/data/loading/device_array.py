"""Moves batches of a prepared array to the device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RESIDENT_SHARE = 0.25
"""An array moves to the GPU as a whole where it takes at most this share of the memory that is free there."""


class DeviceArray:
    """Loads batches of rows of a uint8 array (N, ...), which may be memory-mapped.

    On a GPU with enough free memory the whole array moves there once, and a batch costs no transfer. Otherwise the
    rows of a batch are gathered on the host and copied from pinned memory, asynchronously.
    """

    def __init__(self, array: NDArray[np.uint8] | Tensor, *, device: torch.device) -> None:
        self._device = device
        self._array = array
        self._resident: Tensor | None = None
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if array.nbytes <= RESIDENT_SHARE * free:
                self._resident = torch.as_tensor(np.ascontiguousarray(array)).to(device)

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def batch(self, positions: NDArray[np.int64]) -> Tensor:
        """The rows at `positions` (B,), as a uint8 tensor (B, ...) on the device."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(positions).to(self._device, non_blocking=True)]
        rows = self._array[positions]
        rows = rows if isinstance(rows, Tensor) else torch.from_numpy(rows)
        return rows.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else rows
