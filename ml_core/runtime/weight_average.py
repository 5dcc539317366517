"""A running mean of a network's weights: steadier than the weights of any one step (Polyak and Juditsky 1992; with
forgetting, Tarvainen and Valpola 2017)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class WeightAverage(Generic[M]):
    """`average.module` is the network with the mean weights, in evaluation mode; BatchNorm statistics are averaged too.

    Each step keeps the share `keep` of the mean, less in the first steps, which would otherwise stay in it for long:
    (1 + step) / (10 + step), as TensorFlow's ExponentialMovingAverage does.
    """

    def __init__(self, module: M, *, keep: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._keep = keep
        mean, now = self.module.state_dict(), module.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        # state_dict shares memory with the module, so these lists stay right while it is trained in place.
        self._mean, self._now = [mean[n] for n in floats], [now[n] for n in floats]
        self._others = [(mean[name], now[name]) for name in now if name not in set(floats)]

    @torch.no_grad()
    def update(self, *, step: int) -> None:
        """Takes in the weights after `step` (counted from 1)."""
        keep = min(self._keep, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._mean, self._now, 1 - keep)
        for mean, now in self._others:
            mean.copy_(now)

    def state_dict(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state)
