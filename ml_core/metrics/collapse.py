"""Detects the collapse of a self-supervised network: nearly the same embedding for every image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ml_core.job.reporting import Reporter

COLLAPSED_SHARE = 0.1
"""An embedding whose spread is below this share of the healthy one has collapsed."""
WINDOWS = 3
"""This many low points in a row are needed, as the first steps or a single unusual batch prove nothing."""


class CollapseWatch:
    """Receives every reported point, warns once when the embedding collapses, and stores the latest values.

    Its state is part of the checkpoint, so that a resumed run neither loses nor repeats the warning.
    """

    def __init__(self, reporter: Reporter, *, size: int) -> None:
        self.healthy = 1 / math.sqrt(size)
        """The spread of normalised embeddings of `size` dimensions that are distributed evenly over the sphere."""
        self.latest: dict[str, float] = {}
        self._reporter = reporter
        self._low = 0
        self._warned = False

    def update(self, name: str, step: int, value: float) -> None:
        self.latest[name] = value
        if name != "embedding_std":
            return
        self._low = self._low + 1 if value < COLLAPSED_SHARE * self.healthy else 0
        if self._low >= WINDOWS and not self._warned:
            self._warned = True
            self._reporter.note(
                f"The embedding has collapsed: spread {value:.3f}, where {self.healthy:.3f} is healthy. The encoder "
                "now answers nearly the same for every image; stop, and try views colour + crop or a lower rate.",
                level="warning",
            )

    def state_dict(self) -> dict[str, Any]:
        return {"latest": dict(self.latest), "low": self._low, "warned": self._warned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.latest, self._low, self._warned = dict(state["latest"]), state["low"], state["warned"]
