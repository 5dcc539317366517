"""A running job's events, its control messages and its exit codes. Nothing here imports torch.

Out: one JSON object per line in `events.jsonl`. In: lines on standard input. At the end: an exit code.
`docs/contracts.md` is the written form of this contract.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from ml_core.job.files import sha256_of
from ml_core.job.terminal import Terminal

DONE = 0


USER_CAN_MEND = 70
"""The last `note` of level "error" explains what to do."""


STOPPED = 75
"""Stopped on request, with a checkpoint."""


ABANDONED = 76
"""The lease ended or the supervisor has exited; checkpoints that were written stay."""


class Reporter(Protocol):
    """How a recipe reports. `EventFile` is the real implementation; tests may pass their own."""

    def point(self, name: str, step: int, value: float, *, low: float | None = None, high: float | None = None) -> None:
        """One measurement. `name` is "loss/train", "foreground_iou/validation", ...; low and high span its steps."""

    def artifact(self, kind: str, path: Path, **facts: Any) -> None:
        """A finished file inside the job's folder: hashed and announced. `facts` may hold name, step, media_type."""

    def note(self, text: str, *, level: str = "info") -> None:
        """One sentence for the log; level is info, warning or error."""

    def progress(self, done: int, total: int, unit: str, *, stage: str = "") -> None:
        """Countable progress; rate and time left are computed here."""

    def results(self, **figures: Any) -> None:
        """The headline figures, for lists and reports."""

    def record(self, **facts: Any) -> None:
        """Entries of the run record: device, versions, precision, what was resumed."""

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint has been written whole."""

    def should_stop(self) -> bool:
        """True once the supervisor has requested a checkpoint and a stop."""


_MEDIA_TYPES = {
    ".png": "image/png",
    ".webp": "image/webp",
    ".json": "application/json",
    ".csv": "text/csv",
    ".npy": "application/octet-stream",
    ".safetensors": "application/octet-stream",
}


class EventFile:
    """Appends events to `<folder>/events.jsonl`; the line number is the event's `seq`, from 1.

    A line is written with one write call, so a killed process leaves at most one torn last line, which the reader
    skips and the next run in the same folder cuts off before it goes on counting. With `echo` the events are also
    printed at a terminal.
    """

    def __init__(self, folder: Path, *, control: StopFlag | None = None, echo: Terminal | None = None) -> None:
        self.folder = folder
        self._control = control
        self._echo = echo
        self._lock = threading.Lock()
        self._progress_started: dict[str, tuple[float, int]] = {}
        self._progress_written = 0.0
        self._file = open(folder / "events.jsonl", "ab+", buffering=0)  # noqa: SIM115  closed by close()
        self._seq = self._count_lines()

    def close(self) -> None:
        self._file.close()
        if self._echo:
            self._echo.close()

    def _count_lines(self) -> int:
        """How many events an earlier run in this folder has written; a torn last line is cut off."""
        self._file.seek(0)
        count = whole = 0
        while chunk := self._file.read(1 << 20):
            if (last := chunk.rfind(b"\n")) >= 0:
                count += chunk.count(b"\n")
                whole = self._file.tell() - len(chunk) + last + 1
        self._file.truncate(whole)
        self._size = whole
        return count

    def _write(self, kind: str, **data: Any) -> None:
        with self._lock:
            self._seq += 1
            event = {"seq": self._seq, "time": round(time.time(), 3), "kind": kind, **data}
            line = json.dumps(event, allow_nan=False, separators=(",", ":"), default=_plain).encode() + b"\n"
            written = self._file.write(line)
            if written != len(line):  # The disk is full: half a line would spoil the next one.
                self._file.truncate(self._size)
                self._seq -= 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / "events.jsonl"))
            self._size += len(line)

    def point(self, name: str, step: int, value: float, *, low: float | None = None, high: float | None = None) -> None:
        fields: dict[str, Any] = {"name": name, "step": int(step)}
        for key, number in (("value", value), ("low", low), ("high", high)):
            if number is None:
                continue
            number = float(number)
            if math.isfinite(number):
                fields[key] = number
            else:
                fields[key] = None
                fields["reason"] = "not a number" if math.isnan(number) else "infinite"
        self._write("point", **fields)
        if self._echo:
            self._echo.point(name, fields["value"])

    def artifact(self, kind: str, path: Path, **facts: Any) -> None:
        name = facts.pop("name", path.name)
        step = facts.pop("step", None)
        media_type = facts.pop("media_type", _MEDIA_TYPES.get(path.suffix, "application/octet-stream"))
        self._write(
            "artifact",
            artifact=kind,
            name=name,
            path=str(path.resolve().relative_to(self.folder.resolve())),
            sha256=sha256_of(path),
            size=path.stat().st_size,
            media_type=media_type,
            step=step,
            facts=facts,
        )
        if self._echo:
            self._echo.artifact(kind, path)

    def note(self, text: str, *, level: str = "info") -> None:
        self._write("note", text=text, level=level)
        if self._echo:
            self._echo.note(text, level=level)

    def progress(self, done: int, total: int, unit: str, *, stage: str = "") -> None:
        now = time.monotonic()
        started, first = self._progress_started.setdefault(stage, (now, done))
        if done < total and done != first and now - self._progress_written < 0.5:
            return
        self._progress_written = now
        rate = (done - first) / (now - started) if now > started and done > first else None
        left = (total - done) / rate if rate else None
        self._write(
            "progress",
            stage=stage,
            done=done,
            total=total,
            unit=unit,
            rate=None if rate is None else round(rate, 3),
            left=None if left is None else round(left, 1),
        )
        if self._echo:
            self._echo.progress(done, total, unit, stage=stage, rate=rate, left=left)

    def results(self, **figures: Any) -> None:
        self._write("results", data=figures)
        if self._echo:
            self._echo.results(figures)

    def record(self, **facts: Any) -> None:
        self._write("record", data=facts)
        if self._echo:
            self._echo.record(facts)

    def checkpoint(self, step: int, path: Path) -> None:
        self._write("checkpoint", step=step, path=str(path.resolve().relative_to(self.folder.resolve())))

    def should_stop(self) -> bool:
        return self._control is not None and self._control.stop_wanted


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):  # a NumPy or torch scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


class StopFlag:
    """Whether a checkpoint and a stop have been requested."""

    stop_wanted = False


class Control(StopFlag):
    """Reads the supervisor's messages from standard input: `lease <seconds>`, `stop`; end of file means that it has
    exited.

    The lease is counted on this process's own monotonic clock. When it ends, or at end of file, the process exits
    at once with ABANDONED: its successor may already be running.
    """

    def __init__(self, stream: IO[bytes], *, lease_seconds: float) -> None:
        self._deadline = time.monotonic() + lease_seconds
        self._stream = stream
        threading.Thread(target=self._listen, name="control", daemon=True).start()
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def _listen(self) -> None:
        try:
            while line := self._stream.readline():
                word, _, rest = line.decode("ascii", "replace").strip().partition(" ")
                if word == "lease":
                    self._deadline = time.monotonic() + float(rest)
                elif word == "stop":
                    self.stop_wanted = True
        finally:  # End of file, or a malformed line: either way no supervisor controls this process.
            os._exit(ABANDONED)

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
        os._exit(ABANDONED)
