"""Reads zip uploads (an `ml_core.data.archives.entries.Archive`) with `zipfile`. Imports no torch."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ml_core.data.archives.entries import MAX_ENTRIES, ArchiveChecker, Member
from ml_core.data.formats.image_file import Refused
from ml_core.errors import UserError

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}
"""LZMA is left out: an entry may ask for four gigabytes of memory."""
_DAMAGED = Refused("It is damaged within the zip file.", "Make the zip again.")


class Zip:
    """A zip whose list of members has been read and checked. Raises UserError where the whole archive is refused."""

    def __init__(self, path: Path, *, filename: str) -> None:
        self._filename = filename
        self._check_count(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            raise UserError(f"{filename} is not a whole zip file ({error}). Make it again and add it.") from error
        try:
            infos = [info for info in self._zip.infolist() if not info.filename.endswith("/")]
            self._check_overlap(infos)
            checker = ArchiveChecker(path, filename=filename)
            found = (checker.member(i.filename, i.file_size, kind=_kind_of(i), handle=i) for i in infos)
            self.members = [member for member in found if member is not None]
        except BaseException:
            self._zip.close()
            raise

    def close(self) -> None:
        self._zip.close()

    @contextmanager
    def open(self, member: Member) -> Iterator[IO[bytes]]:
        """Opens a member as a stream. Errors of zipfile while it is read are raised as Refused."""
        try:
            with self._zip.open(member.handle) as stream:
                yield stream
        except Refused:
            raise
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, struct.error) as error:
            raise _DAMAGED from error
        except OSError as error:
            if error.errno is not None:
                raise  # A full disk is not the file's fault.
            raise _DAMAGED from error
        except Exception as error:
            if type(error).__module__ in {"zlib", "_bz2"}:
                raise _DAMAGED from error
            raise

    def _check_count(self, path: Path) -> None:
        """Checks the count in the end record first: zipfile would create an object for each of a million entries."""
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
        if max(count, directory // 4096) > MAX_ENTRIES or directory > min(path.stat().st_size, 2**29):
            raise UserError(
                f"{self._filename} claims to hold {count:,} files; up to {MAX_ENTRIES:,} are read. Split it in several."
            )

    def _check_overlap(self, infos: list[zipfile.ZipInfo]) -> None:
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise UserError(f"{self._filename} holds files that overlap; nothing was unpacked. Make the zip again.")
            end = info.header_offset + 30 + info.compress_size


def is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _kind_of(info: zipfile.ZipInfo) -> Refused | None:
    """The reason to refuse an entry that is no plain file; None for a plain file."""
    mode = info.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0):
        return Refused("It is a link or a device, not a file.", "Zip the file that it points to.")
    if info.flag_bits & 0x1:
        return Refused("It is encrypted.", "Make the zip without a password.")
    if info.compress_type not in _METHODS:
        return Refused(f"It is compressed by method {info.compress_type}.", "Make the zip with plain Deflate.")
    return None
