"""Prints a running job's progress, notes and results at a terminal. Nothing here imports torch.

On a terminal one line is written over and over: epoch, step, rate, time left, the last figures and the best. In a pipe
or a file that would be thousands of lines, so there a line is printed every `SELDOM` seconds. Notes stay, and the
results come last.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from ml_core.job.time_text import duration

SELDOM = 30.0
"""Seconds between two lines of progress where they cannot be rewritten."""
_CLEAR = "\r\x1b[K"
_FIGURES = 3
"""Figures beside the progress, so that the line stays one line."""
_LESS_IS_BETTER = ("loss", "cross_entropy", "ab_error")


class Terminal:
    """Formats the events of an `EventFile` for a person and prints them on `stream`."""

    def __init__(self, stream: IO[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._rewrites = stream.isatty()
        self._standing = False
        """Whether the last line is one of progress that has not ended."""
        self._said_at: dict[str, float] = {}
        self._steps_per_epoch = 0
        self._last: dict[str, float] = {}
        self._best: dict[str, float] = {}

    def point(self, name: str, value: float | None) -> None:
        if value is None or not math.isfinite(value):
            return
        self._last[name] = value
        better = min if name.startswith(_LESS_IS_BETTER) else max
        self._best[name] = better(value, self._best.get(name, value))

    def record(self, facts: Mapping[str, Any]) -> None:
        self._steps_per_epoch = int(facts.get("steps_per_epoch") or self._steps_per_epoch)

    def progress(self, done: int, total: int, unit: str, *, stage: str, rate: float | None, left: float | None) -> None:
        ends = done >= total
        if not self._rewrites and not self._due(stage, unit=unit, ends=ends):
            return
        parts = [self._place(done, total, unit, stage=stage)]
        if rate:
            parts.append(f"{_short(rate)}/s")
        if left is not None and not ends:
            parts.append(f"{duration(left, whole_minutes_from=3600)} left")
        line = " · ".join(parts)
        for figure in self._figures() if unit == "steps" else ():
            if not self._rewrites or len(line) + len(figure) + 3 < self._width():
                line += f" · {figure}"
        if not self._rewrites:
            self._write(f"{line}\n")
            return
        self._write(f"{_CLEAR}{line[: self._width() - 1]}")
        self._standing = not ends
        if ends:
            self._write("\n")

    def _due(self, stage: str, *, unit: str, ends: bool) -> bool:
        """Whether to print a line where lines stay: at the end, every `SELDOM` seconds, and when a training begins."""
        now = self._clock()
        begins = stage not in self._said_at
        if begins or ends or now - self._said_at[stage] >= SELDOM:
            self._said_at[stage] = now
            return ends or not begins or unit == "steps"
        return False

    def _place(self, done: int, total: int, unit: str, *, stage: str) -> str:
        if unit != "steps" or not self._steps_per_epoch:
            return f"{stage + ': ' if stage else ''}{done:,} of {total:,} {unit}"
        epochs = -(-total // self._steps_per_epoch)
        epoch = min(done // self._steps_per_epoch + 1, epochs)
        return f"epoch {epoch:,}/{epochs:,} · step {done:,}/{total:,}"

    def note(self, text: str, *, level: str) -> None:
        self.line(text if level == "info" else f"{level}: {text}")

    def artifact(self, kind: str, path: Path) -> None:
        """Prints the path of a model; pictures are too many to print."""
        if path.suffix == ".safetensors":
            self.line(f"{kind}: {path}")

    def results(self, figures: Mapping[str, Any]) -> None:
        rows = [(name.replace("_", " "), _figure(value)) for name, value in figures.items()]
        widest = max((len(name) for name, _ in rows), default=0)
        self.line("Results")
        for name, value in rows:
            self._write(f"  {name.ljust(widest)}  {value}\n")

    def line(self, text: str) -> None:
        """A line that stays."""
        if self._standing:
            self._write(_CLEAR)
            self._standing = False
        self._write(f"{text}\n")

    def close(self) -> None:
        """Ends a line of progress that is still open."""
        if self._standing:
            self._write("\n")
            self._standing = False

    def _figures(self) -> list[str]:
        """The train loss, then the validation figures with the best of each so far; the score before its loss."""
        validated = sorted(
            (name for name in self._last if name.endswith("/validation")),
            key=lambda name: name.startswith(_LESS_IS_BETTER),
        )
        said = [f"loss {_short(self._last['loss/train'])}"] if "loss/train" in self._last else []
        for name in validated[: _FIGURES - len(said)]:
            quantity = name.partition("/")[0].replace("_", " ")
            said.append(f"{quantity} {_short(self._last[name])} (best {_short(self._best[name])})")
        return said

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the reader has closed the pipe (`| head`): no reason to end a training
            self._rewrites = self._standing = False


def _short(value: float) -> str:
    """Three digits that count; no exponent where a person can read it without."""
    if value == 0 or 1e-3 <= abs(value) < 1000:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:,.0f}" if abs(value) < 1e7 and abs(value) >= 1000 else f"{value:.2e}"


def _figure(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        if 0 < len(value) <= 4 and all(isinstance(v, int | float) for v in value):
            return " to ".join(_figure(v) for v in value) if len(value) == 2 else ", ".join(_figure(v) for v in value)
        return f"{len(value):,} values, in events.jsonl"
    if isinstance(value, Mapping):
        return f"{len(value):,} entries, in events.jsonl"
    return str(value)
