"""Tar files, plain or under gzip (`ml_core.data.archives.entries.Archive`). Imports no torch.

Headers are read one by one with `tarfile`'s reader of a single block, and not with its loop over a file: that loop
follows negative sizes for ever, and reads extended headers of any length, in Pythons that are still about.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from ml_core.data.archives.entries import Judge, Member
from ml_core.data.formats.image_file import Refused
from ml_core.errors import UserError

_BLOCK = 512
_GZIP = b"\x1f\x8b"
_MOST_EXTENDED = 2**16
"""Of a header with a long name; programs of Apple put a few kilobytes of their own beside it."""
_BYTES_PER_ENTRY = 16
_FREE_ENTRIES = 20_000
"""Above so many entries a file of the archive takes some bytes of it at least, however empty and alike they are."""
_ANOTHER = Refused("It is a link or a device, not a file.", "Archive the file that it points to.")
_DAMAGED = Refused("The archive is damaged or cut off here.", "Make the archive again.")
_WITHOUT_DATA = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE}
)
_ABOUT_OTHERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
"""Entries that are no files: they say something of the next, or of all."""
_ERRORS = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError)


class Tar:
    """A tar whose list has been read and judged. Raises UserError where the whole of it cannot be taken.

    Under gzip, listing unpacks the whole once and opening the members in order once more; nothing is kept of it.
    """

    def __init__(self, path: Path, *, filename: str) -> None:
        self._stream = _unpacked(path)
        self._filename = filename
        self._size = path.stat().st_size
        try:
            self.members = list(self._listed(Judge(path, filename=filename)))
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        self._stream.close()

    @contextmanager
    def open(self, member: Member) -> Iterator[IO[bytes]]:
        """A member as a stream. What is wrong while it is read becomes Refused."""
        try:
            self._stream.seek(member.handle)
            yield cast(IO[bytes], _Part(self._stream, member.size))
        except _ERRORS as error:
            raise _DAMAGED from error

    def _listed(self, judge: Judge) -> Iterator[Member]:
        read = 0
        try:
            for entries, (name, size, kind, data) in enumerate(_headers(self._stream), start=1):
                if entries > _FREE_ENTRIES and entries * _BYTES_PER_ENTRY > self._size:
                    raise UserError(
                        f"{self._filename} is {self._size:,} bytes and claims to hold more than {entries:,} files. "
                        "Nothing was unpacked. Archive the images in several parts."
                    )
                judge.check(entries=entries, total=data)
                if kind == tarfile.DIRTYPE or kind in _ABOUT_OTHERS:
                    continue
                fault = None if kind in (tarfile.REGTYPE, tarfile.AREGTYPE) else _ANOTHER
                if (member := judge.member(name, size, kind=fault, handle=data)) is not None:
                    yield member
                read += 1
        except _ERRORS as error:
            if not read:
                raise UserError(f"{self._filename} is not a whole tar file. Make it again and add it.") from error
            yield Member(f"{self._filename} after its first {read:,} files", 0, _DAMAGED)


class _Part(io.RawIOBase):
    """The next `size` bytes of a stream. Raises EOFError where there are fewer."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        chunk = self._stream.read(wanted) if wanted else b""
        if len(chunk) < wanted and not chunk:
            raise EOFError("the archive ends within a file")
        self._left -= len(chunk)
        return chunk


def is_tar(path: Path, *, filename: str) -> bool:
    """By the word `ustar` in the first header; a tar of before 1988, which has none, by its name."""
    try:
        with _unpacked(path) as stream:
            start = stream.read(_BLOCK)
    except (OSError, EOFError, zlib.error):
        start = b""
    if start[257:262] == b"ustar":
        return True
    if filename.lower().endswith((".tar", ".tar.gz", ".tgz")):
        return True
    with contextlib.suppress(tarfile.TarError):  # its checksum holds, and that of no picture would
        return len(start) == _BLOCK and bool(tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape").name)
    return False


def _unpacked(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else open(path, "rb")


def _headers(stream: IO[bytes]) -> Iterator[tuple[str, int, bytes, int]]:
    """Name, size, type and the place of the data of each header. Raises one of _ERRORS where it is damaged."""
    at = 0
    long_name, long_size = "", -1
    while True:
        stream.seek(at)
        block = stream.read(_BLOCK)
        if not block.strip(b"\0"):
            if not block and not at:
                raise EOFError("empty")
            return
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        data = at + _BLOCK
        size = long_size if long_size >= 0 and info.type != tarfile.XHDTYPE else info.size
        if size < 0:
            raise ValueError("a negative size")
        if info.type in _WITHOUT_DATA:
            size = 0  # whatever its header says, nothing follows
        at = data + -(-size // _BLOCK) * _BLOCK
        if info.type in _ABOUT_OTHERS and size > _MOST_EXTENDED:
            raise ValueError("an endless extended header")
        if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            extended = stream.read(size)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = extended.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            else:
                records = _records(extended)
                long_name = records.get("path", long_name)
                long_size = int(records["size"]) if "size" in records else long_size
        yield long_name or info.name, size, info.type, data  # of every header: whoever counts must see them all
        if info.type not in _ABOUT_OTHERS:
            long_name, long_size = "", -1


def _records(extended: bytes) -> dict[str, str]:
    """The records `<length> <keyword>=<value>` of an extended header (POSIX.1-2001, pax)."""
    found = {}
    while extended.strip(b"\0"):
        length, space, _ = extended.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or not len(length) < int(length) <= len(extended):
            raise ValueError("a broken extended header")
        record, extended = extended[: int(length)], extended[int(length) :]
        keyword, _, value = record[len(length) + 1 :].rstrip(b"\n").partition(b"=")
        found[keyword.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return found
