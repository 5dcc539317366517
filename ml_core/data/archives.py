"""The files of an upload: one file, or those of a zip. Imports no torch.

Nothing is extracted by name: entries are streams, and a name is only a word for the report. What an archive claims is
checked before its first byte is unpacked.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ml_core.data.readers import Refused
from ml_core.reporting import UserError

MAX_ENTRIES = 600_000
MAX_TOTAL = 200 * 2**30
MAX_RATIO = 200
CHECK_RATIO_ABOVE = 2**30
"""Masks are mostly black and compress well; only what unpacks to much can hurt."""
MAX_NAME = 380

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_NOISE = {"thumbs.db", "desktop.ini", ".ds_store"}


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an upload. `fault` says why it cannot even be opened."""

    name: str
    size: int
    fault: Refused | None = None
    info: zipfile.ZipInfo | None = None


class Archive:
    """A zip whose list has been read and judged. Raises UserError where the whole of it cannot be taken."""

    def __init__(self, path: Path, *, filename: str) -> None:
        self._filename = filename
        self._check_count(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            raise UserError(f"{filename} is not a whole zip file ({error}). Make it again and add it.") from error
        infos = [info for info in self._zip.infolist() if not info.is_dir()]
        self._check_sizes(infos, path)
        self.members = list(_judged(infos))

    def close(self) -> None:
        self._zip.close()

    @contextmanager
    def open(self, member: Member) -> Iterator[IO[bytes]]:
        """A member as a stream. What zipfile finds wrong while it is read becomes Refused."""
        assert member.info is not None
        try:
            with self._zip.open(member.info) as stream:
                yield stream
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, struct.error) as error:
            raise Refused("It is damaged within the zip file.", "Make the zip again.") from error
        except OSError as error:
            if error.errno is not None:
                raise  # A full disk is not the file's fault.
            raise Refused("It is damaged within the zip file.", "Make the zip again.") from error
        except Exception as error:
            if type(error).__module__ in {"zlib", "lzma", "_bz2"}:
                raise Refused("It is damaged within the zip file.", "Make the zip again.") from error
            raise

    def _check_count(self, path: Path) -> None:
        """Looks at the end record first: zipfile would make an object of each of a million claimed entries."""
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 65_600))
            tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) < at + 22:
            raise UserError(f"{self._filename} is not a whole zip file: its end is missing. Add it again.")
        count = int(struct.unpack_from("<H", tail, at + 10)[0])
        directory = int(struct.unpack_from("<I", tail, at + 12)[0])
        large = tail.rfind(b"PK\x06\x06")
        if count == 0xFFFF and 0 <= large <= len(tail) - 56:
            count, directory = struct.unpack_from("<QQ", tail, large + 32)
        if max(count, directory // 4096) > MAX_ENTRIES:
            raise UserError(
                f"{self._filename} claims to hold {count:,} files; up to {MAX_ENTRIES:,} are read. Split it in several."
            )

    def _check_sizes(self, infos: list[zipfile.ZipInfo], path: Path) -> None:
        if len(infos) > MAX_ENTRIES:
            raise UserError(f"{self._filename} holds {len(infos):,} files; up to {MAX_ENTRIES:,} are read. Split it.")
        total = sum(info.file_size for info in infos)
        if total > MAX_TOTAL or total > max(CHECK_RATIO_ABOVE, MAX_RATIO * path.stat().st_size):
            raise UserError(
                f"{self._filename} is {path.stat().st_size:,} bytes and claims to unpack to {total:,}. Nothing was "
                "unpacked. Zip the images in several parts."
            )
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise UserError(f"{self._filename} holds files that overlap; nothing was unpacked. Make the zip again.")
            end = info.header_offset + 30 + info.compress_size


def is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def is_noise(name: str) -> bool:
    """What file managers leave in archives, without anybody wanting to upload it."""
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1].lower() in _NOISE or parts[-1].startswith("._")


def name_fault(name: str) -> Refused | None:
    """What is wrong with a name; None for a plain relative path."""
    bare = "".join(c for c in name if c.isprintable())
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or (len(name) > 1 and name[1] == ":"):
        return Refused("Its path leads out of the archive.", "Zip the folder itself, with plain relative names.")
    if bare != name or not name.strip() or "" in parts:
        return Refused("Its name holds characters that no file name should.", "Rename it and add it again.")
    if len(name) > MAX_NAME:
        return Refused(f"Its path is longer than {MAX_NAME} characters.", "Use shorter names of folders.")
    return None


def _judged(infos: list[zipfile.ZipInfo]) -> Iterator[Member]:
    seen: set[str] = set()
    for info in infos:
        name = info.filename.removeprefix("./")
        if is_noise(name):
            continue
        fault = name_fault(name)
        mode = info.external_attr >> 16
        if fault is None and mode and not (stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0):
            fault = Refused("It is a link or a device, not a file.", "Zip the file that it points to.")
        elif fault is None and info.flag_bits & 0x1:
            fault = Refused("It is encrypted.", "Make the zip without a password.")
        elif fault is None and name.lower().endswith(_ARCHIVES):
            fault = Refused("It is an archive within the archive.", "Unpack it and add its files, or add it by itself.")
        elif fault is None and name in seen:
            fault = Refused("The archive holds two files of this name; the first was read.", "Rename one of them.")
        seen.add(name)
        yield Member(name, info.file_size, fault, info)
