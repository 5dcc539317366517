"""Measurements on their way from the device to the events.

Reading a number from a GPU waits until all operations queued before it are done. So values stay on the device and are
transferred together, at most a few times a second. Which points are reported depends on steps alone, never on the
clock: points are means over windows of steps that are aligned to multiples of their length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ml_core.job.reporting import Reporter

Watch = Callable[[str, int, float], None]
"""Called with name, step and value of every reported point."""


class NotFinite(Exception):
    """A loss that is not a number, or infinite: training cannot go on from here."""

    def __init__(self, *, name: str, step: int) -> None:
        super().__init__(f"{name} is not finite at step {step}")
        self.step = step


class Meter:
    """Collects values by name and reports them as points: see the module's docstring."""

    def __init__(self, reporter: Reporter, *, every: int, watch: Watch | None = None) -> None:
        self._reporter = reporter
        self._every = every
        self._watch = watch
        self._pending: list[tuple[str, int, Tensor | float, bool]] = []
        self._windows: dict[str, dict[str, Any]] = {}

    def add(self, name: str, *, step: int, value: Tensor | float) -> None:
        """One step's value of a quantity that has one at each step. A tensor of shape () is not read yet."""
        self._pending.append((name, step, _detached(value), True))

    def measure(self, name: str, *, step: int, value: Tensor | float) -> None:
        """A single value, such as that of one validation; reported with its own step, without a window."""
        self._pending.append((name, step, _detached(value), False))

    def drain(self, step: int) -> None:
        """Reads all values collected up to `step` in one transfer and reports the complete windows.

        Raises NotFinite at the first loss that is not finite, after reporting it.
        """
        pending, self._pending = self._pending, []
        tensors = [value for _, _, value, _ in pending if isinstance(value, Tensor)]
        read = iter(torch.stack(tensors).tolist() if tensors else ())
        for name, at, value, windowed in pending:
            self._close(before=at)
            number = next(read) if isinstance(value, Tensor) else value
            if not math.isfinite(number) and name.startswith("loss"):
                self._reporter.point(name, at, number)
                raise NotFinite(name=name, step=at)
            if windowed:
                self._put(name, at, number)
            else:
                self._report(name, at, number, None, None)
        self._close(before=step + 1)

    def finish(self, step: int) -> None:
        """Reports the windows that are still open at the end of the run, with its last step."""
        for name, window in self._windows.items():
            self._report(name, step, window["total"] / window["count"], window["low"], window["high"])
        self._windows = {}

    def state_dict(self) -> dict[str, Any]:
        """The open windows. All collected values must have been drained before."""
        assert not self._pending, "values that were not drained would be lost"
        return {"windows": {name: dict(window) for name, window in self._windows.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._pending = []
        self._windows = {name: dict(window) for name, window in state["windows"].items()}

    def _put(self, name: str, step: int, number: float) -> None:
        end = -(-step // self._every) * self._every
        window = self._windows.setdefault(
            name, {"end": end, "count": 0, "total": 0.0, "low": math.inf, "high": -math.inf}
        )
        window["count"] += 1
        window["total"] += number
        window["low"] = min(window["low"], number)
        window["high"] = max(window["high"], number)

    def _close(self, *, before: int) -> None:
        for name in [name for name, window in self._windows.items() if window["end"] < before]:
            window = self._windows.pop(name)
            self._report(name, window["end"], window["total"] / window["count"], window["low"], window["high"])

    def _report(self, name: str, step: int, value: float, low: float | None, high: float | None) -> None:
        self._reporter.point(name, step, value, low=low, high=high)
        if self._watch is not None:
            self._watch(name, step, value)


def _detached(value: Tensor | float) -> Tensor | float:
    """A copy that later steps cannot change: a captured graph, or an in-place sum, reuses its memory."""
    return value.detach().float().reshape(()).clone() if isinstance(value, Tensor) else float(value)
