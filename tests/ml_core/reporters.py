"""A reporter that keeps what it is told, for tests of recipes and loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Heard:
    """Keeps points, notes, artifacts and checkpoints; stops when `stop_after` steps have been reported."""

    def __init__(self) -> None:
        self.points: list[tuple[str, int, float, float | None, float | None]] = []
        self.notes: list[tuple[str, str]] = []
        self.artifacts: list[tuple[str, Path, dict[str, Any]]] = []
        self.checkpoints: list[tuple[int, Path]] = []
        self.records: dict[str, Any] = {}
        self.figures: dict[str, Any] = {}
        self.stop = False

    def point(self, name: str, step: int, value: float, *, low: float | None = None, high: float | None = None) -> None:
        self.points.append((name, step, value, low, high))

    def artifact(self, kind: str, path: Path, **facts: Any) -> None:
        self.artifacts.append((kind, path, facts))

    def note(self, text: str, *, level: str = "info") -> None:
        self.notes.append((level, text))

    def progress(self, done: int, total: int, unit: str, *, stage: str = "") -> None:
        pass

    def results(self, **figures: Any) -> None:
        self.figures.update(figures)

    def record(self, **facts: Any) -> None:
        self.records.update(facts)

    def checkpoint(self, step: int, path: Path) -> None:
        self.checkpoints.append((step, path))

    def should_stop(self) -> bool:
        return self.stop

    def curve(self, name: str) -> dict[int, float]:
        """step -> value of the points called `name`; a step that was said again counts as said last."""
        return {step: value for found, step, value, _, _ in self.points if found == name}
