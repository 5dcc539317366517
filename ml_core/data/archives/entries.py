"""Types and checks that the readers of zip and tar uploads share. Imports no torch.

Nothing is extracted to a path: members are read as streams, and a member's name is used only in the report. The number
and the sizes of members that an archive declares are checked before its first byte is unpacked.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from ml_core.data.formats.image_file import Refused
from ml_core.errors import UserError

MAX_ENTRIES = 600_000


MAX_TOTAL = 200 * 2**30


MAX_RATIO = 200


CHECK_RATIO_ABOVE = 2**30
"""Masks are mostly black and compress well, so only members that unpack to much data are checked."""


MAX_NAME = 380


_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".npz")


_NOISE = {"thumbs.db", "desktop.ini", ".ds_store"}


_MOST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an upload. `fault` is the reason why it must not be opened; `handle` is the archive's own object."""

    name: str
    size: int
    fault: Refused | None = None
    handle: Any = None


class Archive(Protocol):
    """An archive whose list of members has been read and checked."""

    members: list[Member]
    """In the order in which to open them: going back may require reading from the start."""

    def open(self, member: Member) -> AbstractContextManager[IO[bytes]]:
        """Opens a member as a stream of exactly its size. Raises Refused where it turns out to be damaged."""

    def close(self) -> None: ...


def is_noise(name: str) -> bool:
    """Whether a member is metadata that a file manager adds to archives, not something that a user uploads."""
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1].lower() in _NOISE or parts[-1].startswith("._")


def shown(name: str) -> str:
    """Formats a name of arbitrary bytes so that it can be printed and stored in a database."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in name)
    return clean if len(clean) <= _MOST_SHOWN else f"{clean[: _MOST_SHOWN // 2]}...{clean[-_MOST_SHOWN // 2 :]}"


def name_fault(name: str) -> Refused | None:
    """Validates a member's name: the reason to refuse it, or None for a plain relative path."""
    bare = "".join(c for c in name if c.isprintable())
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or (len(name) > 1 and name[1] == ":"):
        return Refused("Its path leads out of the archive.", "Archive the folder itself, with plain relative names.")
    if bare != name or not name.strip() or "" in parts or "." in parts:
        return Refused("Its name holds characters that no file name should.", "Rename it and add it again.")
    if len(name) > MAX_NAME:
        return Refused(f"Its path is longer than {MAX_NAME} characters.", "Use shorter names of folders.")
    return None


class ArchiveChecker:
    """Validates the members of one archive by name and kind, and the sums of their declared sizes."""

    def __init__(self, path: Path, *, filename: str) -> None:
        self._filename = filename
        self._size = path.stat().st_size
        self._seen: set[str] = set()
        self._count = 0
        self._total = 0

    def member(self, name: str, size: int, *, kind: Refused | None, handle: Any) -> Member | None:
        """The member with its fault, if any; None for noise. Raises UserError where the archive is a bomb.

        `kind` is the reason to refuse a member that is no plain file.
        """
        self._count += 1
        self._total += size
        self.check(entries=self._count, total=self._total)
        name = name.removeprefix("./")
        if is_noise(name):
            return None
        fault = name_fault(name) or kind
        if fault is None and name.lower().endswith(_ARCHIVES):
            fault = Refused("It is an archive within the archive.", "Unpack it and add its files, or add it by itself.")
        elif fault is None and name in self._seen:
            fault = Refused("The archive holds two files of this name; the first was read.", "Rename one of them.")
        self._seen.add(name)
        return Member(name, size, fault, handle)

    def check(self, *, entries: int, total: int) -> None:
        """Raises UserError where the number of entries or their total size in bytes is above the limit."""
        if entries > MAX_ENTRIES:
            raise UserError(f"{self._filename} holds {entries:,} files; up to {MAX_ENTRIES:,} are read. Split it.")
        if total > MAX_TOTAL or total > max(CHECK_RATIO_ABOVE, MAX_RATIO * self._size):
            raise UserError(
                f"{self._filename} is {self._size:,} bytes and claims to unpack to {total:,}. Nothing was unpacked. "
                "Archive the images in several parts."
            )
