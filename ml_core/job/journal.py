"""Append-only files of what an intake has found so far, so that one that was killed can resume.

A mark is the length of each file at one time. The next attempt copies the files up to the last mark; what was written
after it is read again. Imports no torch.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_COPY = 2**20


class Journal:
    """Lists of JSON lines, each in a file `<name>.part` of `folder`."""

    def __init__(
        self, folder: Path, *, names: Iterable[str], after: tuple[Path, Mapping[str, int]] | None = None
    ) -> None:
        """Begins anew, or with what the folder of an earlier attempt held at a mark. Raises OSError."""
        self._paths = {name: folder / f"{name}.part" for name in names}
        for name, path in self._paths.items():
            path.unlink(missing_ok=True)
            if after is not None:
                _copy_start(after[0] / path.name, path, length=after[1][name])
        self._files = {name: open(path, "ab") for name, path in self._paths.items()}  # noqa: SIM115  closed by close()

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        self._files[name].write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n")

    def mark(self) -> dict[str, int]:
        """The lengths now; all of it is on the disk when this returns."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def entries(self, name: str) -> Iterator[dict[str, Any]]:
        self._files[name].flush()
        with open(self._paths[name], "rb") as file:
            for line in file:
                yield json.loads(line)

    def become(self, name: str, path: Path) -> None:
        """Gives a list its final name; it was marked before, so what it takes is one rename."""
        os.replace(self._paths[name], path)

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def sync(folder: Path) -> None:
    """All that was written to the disk of `folder` is on it when this returns: one call for any number of files."""
    call = getattr(ctypes.CDLL(None), "syncfs", None)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if call is None or call(handle) != 0:
            os.sync()  # macOS has no other
    finally:
        os.close(handle)


def adopt(old: Path, new: Path, *, leave: str) -> None:
    """Links the files of the folder `old` into `new`, but for those named `leave...`; copies them from another disk.

    A link and not a move: an attempt writes in its own folder alone, and its successor may be killed as well.
    """
    with os.scandir(old) as entries:
        for entry in entries:
            if entry.name.startswith(leave) or (new / entry.name).exists():
                continue
            try:
                os.link(entry.path, new / entry.name)
            except OSError:
                shutil.copyfile(entry.path, new / entry.name)


def _copy_start(source: Path, to: Path, *, length: int) -> None:
    with open(source, "rb") as read, open(to, "wb") as write:
        while length > 0:
            chunk = read.read(min(length, _COPY))
            if not chunk:
                raise FileNotFoundError(f"{source} is shorter than its mark")
            length -= len(chunk)
            write.write(chunk)
