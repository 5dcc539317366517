"""Whether a self-supervised network still tells images apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ml_core.job.reporting import Reporter

COLLAPSED_SHARE = 0.1
"""An embedding whose spread is under this share of the healthy one has collapsed."""
WINDOWS = 3
"""So many points in a row, as the first steps and a single odd batch prove nothing."""


class CollapseWatch:
    """Hears every point that is said, warns once when the embedding collapses, and remembers the latest figures.

    A part of the checkpoint, so that a resumed run neither forgets nor repeats its warning.
    """

    def __init__(self, reporter: Reporter, *, size: int) -> None:
        self.healthy = 1 / math.sqrt(size)
        """The spread of normalised embeddings of `size` numbers that are spread evenly over the sphere."""
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
