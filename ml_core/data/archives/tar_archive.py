"""Reads tar and tar.gz uploads (an `ml_core.data.archives.entries.Archive`) with `tarfile`. Imports no torch.

Nothing is extracted to a path. What `tarfile`'s filter `data` refuses is refused here, and more: all links, and
absolute names (docs/decisions/tarfile.md).
"""

from __future__ import annotations

import contextlib
import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, cast

from ml_core.data.archives.entries import MAX_NAME, ArchiveChecker, Member
from ml_core.data.formats.image_file import Refused
from ml_core.errors import UserError

_BLOCK = 512
_GZIP = b"\x1f\x8b"
_MAX_HEADER_BYTES = 2**16
"""Limit of all headers of one member; Apple's programs add a few kilobytes of their own to a long name."""
_MAX_HEADERS = 16
"""Limit of the headers of one member: `tarfile` recurses for each."""
_MAX_GLOBAL_RECORDS = 100
_BYTES_PER_ENTRY = 16
_FREE_ENTRIES = 20_000
"""Above this number of entries, each must take some bytes of the archive, however empty and similar they are."""
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_NAME + 1))
_PAX_TYPES = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})
_ANOTHER = Refused("It is a link or a device, not a file.", "Archive the file that it points to.")
_DAMAGED = Refused("The archive is damaged or cut off here.", "Make the archive again.")
_ERRORS = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError)


class Tar:
    """A tar whose list of members has been read and checked. Raises UserError where the whole archive is refused.

    A tar.gz is unpacked once to list its members and once more to open them in order; the unpacked data is not kept.
    """

    def __init__(self, path: Path, *, filename: str) -> None:
        self._file = _HeaderFile(_unpacked(path))
        self._filename = filename
        self._size = path.stat().st_size
        try:
            self.members = list(self._listed(ArchiveChecker(path, filename=filename)))
            self._file.end_headers()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def open(self, member: Member) -> Iterator[IO[bytes]]:
        """Opens a member as a stream. Errors while it is read are raised as Refused."""
        # Only a member's offset and size are kept: half a million whole headers would fill the memory.
        info = tarfile.TarInfo(member.name)
        info.offset_data, info.size = member.handle, member.size
        try:
            with cast(IO[bytes], self._tar.extractfile(info)) as stream:
                yield stream
        except _ERRORS as error:
            raise _DAMAGED from error

    def _listed(self, checker: ArchiveChecker) -> Iterator[Member]:
        read = 0
        try:
            for info, end in self._headers():
                entries = self._file.headers
                if entries > _FREE_ENTRIES and entries * _BYTES_PER_ENTRY > self._size:
                    raise UserError(
                        f"{self._filename} is {self._size:,} bytes and claims to hold more than {entries:,} files. "
                        "Nothing was unpacked. Archive the images in several parts."
                    )
                checker.check(entries=entries, total=end)
                if info.isdir():
                    continue
                plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.sparse is None
                size = info.size if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES else 0
                member = checker.member(info.name, size, kind=None if plain else _ANOTHER, handle=info.offset_data)
                if member is not None:
                    yield member
                read += 1
        except _ERRORS as error:
            if not read:
                raise UserError(f"{self._filename} is not a whole tar file. Make it again and add it.") from error
            yield Member(f"{self._filename} after its first {read:,} files", 0, _DAMAGED)

    def _headers(self) -> Iterator[tuple[tarfile.TarInfo, int]]:
        """Each member's header, and where its data ends. Raises one of _ERRORS where the archive is damaged."""
        end = 0
        self._file.start_member()
        # The constructor reads the first header.
        self._tar = tarfile.TarFile(
            fileobj=cast(Any, self._file), tarinfo=_Header, encoding="utf-8", errors="surrogateescape"
        )
        while (info := self._tar.next()) is not None:
            # Pythons before 3.11.14, 3.12.12 and 3.13.6 seek back by a negative size and never end (CVE-2025-8194).
            if info.size < 0 or self._tar.offset <= end:
                raise tarfile.ReadError("a negative size")
            if len(self._tar.pax_headers) > _MAX_GLOBAL_RECORDS:
                raise tarfile.ReadError("endless global headers")
            end = self._tar.offset
            cast(Any, self._tar).members.clear()  # it keeps them all otherwise; the attribute is not in the stubs
            yield info, end
            self._file.start_member()


class _HeaderFile:
    """The file that `tarfile` reads. Bounds the size of headers, as `tarfile` reads them into memory at any length."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._bytes_left: int | None = None
        self._headers_left = 0
        self._block_is_header = False
        self._body_is_pax = False
        self.headers = 0
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def start_member(self) -> None:
        self._bytes_left, self._headers_left = _MAX_HEADER_BYTES, _MAX_HEADERS

    def start_header(self) -> None:
        """Called before each header block: the member's own, or one of the extended headers before it."""
        if not self._headers_left:
            raise tarfile.ReadError("endless headers")
        self.headers += 1
        self._headers_left -= 1
        self._block_is_header, self._body_is_pax = True, False

    def end_headers(self) -> None:
        """Called when members' data is read, which may have any length."""
        self._bytes_left = None

    def read(self, size: int) -> bytes:
        if self._bytes_left is None:
            return self._file.read(size)
        if not 0 <= size <= self._bytes_left:
            raise tarfile.ReadError("an endless extended header")
        self._bytes_left -= size
        block = self._file.read(size)
        if self._block_is_header:
            self._block_is_header, self._body_is_pax = False, block[156:157] in _PAX_TYPES
        elif self._body_is_pax:
            self._body_is_pax = False
            _check_records(block)
        return block


class _Header(tarfile.TarInfo):
    """Raises ReadError for every broken header; `tarfile` itself takes one after the first for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        cast(_HeaderFile, archive.fileobj).start_header()
        return super().fromtarfile(archive)

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if not buf.strip(b"\0"):
            return super().frombuf(buf and bytes(_BLOCK), encoding, errors)  # the end, which raises
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def is_tar(path: Path, *, filename: str) -> bool:
    """Detects a tar by the word `ustar` in its first header; one from before 1988, which has none, by its name."""
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


def _check_records(body: bytes) -> None:
    """Raises ReadError unless a pax header is records `<length> <keyword>=<value>` and a line feed, one after another.

    Newer versions of Python check it themselves. Those before 3.11.10, 3.12.6 and 3.13.0 fill the memory with records
    that overlap, and spend hours on long numbers (CVE-2024-6232).
    """
    at = 0
    while at < len(body) and body[at]:
        length, space, _ = body[at : at + 8].partition(b" ")
        end = at + int(length) if space and length.isdigit() else 0
        keyword_ends = body.find(b"=", at + len(length) + 2, max(end - 1, 0))
        if end > len(body) or keyword_ends < 0 or body[end - 1] != 0x0A:
            raise tarfile.ReadError("a broken extended header")
        at = end
    if _LONG_NUMBER.search(body):
        raise tarfile.ReadError("a number without end in an extended header")
