"""Files kept once, under the SHA-256 of what is in them."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage
from django.utils.deconstruct import deconstructible

from ml_core.job import journal

_HASH = re.compile(r"[0-9a-f]{64}\Z")


@deconstructible
class BlobStorage(FileSystemStorage):
    """Django's storage where a file's name is its hash; it lies at `<BLOBS>/<first two digits>/<hash>`."""

    def __init__(self) -> None:
        super().__init__(location=settings.BLOBS)

    def path(self, name: str) -> str:
        if not _HASH.match(name):
            raise SuspiciousFileOperation(f"{name!r} is not a SHA-256 hash; files are stored by their hash.")
        return str(Path(self.location) / name[:2] / name)

    def put_file(self, path: Path, sha256: str) -> None:
        """Keeps the file at `path`, whose hash the caller has checked; what is there already stays as it is.

        A hard link where both are on one disk, so it costs no space: whoever wrote the file writes a change of it
        under a new name and never into it.
        """
        target = Path(self.path(sha256))
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            try:
                os.link(path, temporary)
            except OSError:  # Another disk, or a file system without links.
                _copy(path, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def sync(self) -> None:
        """What was put is on the disk when this returns: one call for any number of files."""
        Path(self.location).mkdir(parents=True, exist_ok=True)
        journal.sync(Path(self.location))

    def put_bytes(self, content: bytes) -> str:
        """Keeps `content` and returns its hash."""
        digest = new_sha256(content).hexdigest()
        target = Path(self.path(digest))
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
            try:
                with open(temporary, "wb") as file:
                    _synced(file, content)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        return digest

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _save(self, name: str, content: Any) -> str:
        """`save(hash, file)` of Django's interface: the content is hashed, and another hash than `name` is refused."""
        data = b"".join(content.chunks())
        if new_sha256(data).hexdigest() != name:
            raise SuspiciousFileOperation(f"The content does not have the hash {name}.")
        return self.put_bytes(data)


def _copy(source: Path, to: Path) -> None:
    with open(source, "rb") as read, open(to, "wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())


def _synced(file: IO[bytes], content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
