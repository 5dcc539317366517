"""The context that every recipe gets. Nothing here imports torch, so that recipes without it start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ml_core.job.inputs import Inputs
from ml_core.job.reporting import Reporter
from ml_core.specs import Spec

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True)
class PlainContext(Generic[S]):
    """A running job: its specification, its inputs, its folder and its reporter.

    Recipes that compute get `ml_core.runtime.training_loop.Context`, which adds the device.
    """

    spec: S
    inputs: Inputs
    folder: Path
    reporter: Reporter

    @property
    def artifacts(self) -> Path:
        """The folder for finished files; made at the first use."""
        path = self.folder / "artifacts"
        path.mkdir(parents=True, exist_ok=True)
        return path
