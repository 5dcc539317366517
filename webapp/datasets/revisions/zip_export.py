"""A revision as a zip: every file as uploaded, and the manifest. Importing it gives the same revision."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from django.core.files.storage import default_storage
from django.http import HttpRequest, StreamingHttpResponse

from ml_core.data.manifests.manifest import EXPORTED
from webapp.datasets.models import Revision, file_of
from webapp.streaming import PART, streamed

_UNFIT = re.compile(r'[<>:"|?*\x00-\x1f]')


def filename_of(revision: Revision) -> str:
    """ "Lucchi-3f9c.zip" """
    return f"{_UNFIT.sub('_', revision.dataset.name).replace('/', '_')}-{revision.short_name}.zip"


def answer(request: HttpRequest, revision: Revision) -> StreamingHttpResponse:
    """The zip, sent as it is made. Whether the asker may have it is the caller's to know."""
    return streamed(request, zipped(revision), filename=filename_of(revision), media_type="application/zip")


def zipped(revision: Revision) -> Iterator[bytes]:
    """The zip in parts. Files are stored as they are: pictures do not get smaller."""
    files = _files(revision)
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        yield from _written(archive, sink, EXPORTED, Path(default_storage.path(revision.manifest)))
        for name, sha256 in files.items():
            yield from _written(archive, sink, name, Path(default_storage.path(sha256)))
    yield sink.taken()


def _files(revision: Revision) -> dict[str, str]:
    """Path in the zip -> SHA-256. Images under their own names, masks by layer; a name that is taken gets a mark."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    columns = ("name", "facts", "image", "masks")
    for name, facts, image, masks in revision.items.order_by("position", "id").values_list(*columns).iterator(2000):
        wanted = [(f"images/{file_of(name, facts)}", image)]
        wanted += [(f"masks/{layer}/{mask['name']}", mask["sha256"]) for layer, mask in masks.items()]
        for path, sha256 in wanted:
            if (path, sha256) in seen:
                continue
            seen.add((path, sha256))
            found[_free(path, sha256, found)] = sha256
    return found


def _free(path: str, sha256: str, taken: dict[str, str]) -> str:
    whole = PurePosixPath(path)
    return path if path not in taken else str(whole.with_name(f"{whole.stem}-{sha256[:8]}{whole.suffix}"))


def _written(archive: zipfile.ZipFile, sink: _Sink, name: str, path: Path) -> Iterator[bytes]:
    info = zipfile.ZipInfo(name)  # Without a time of its own: the same revision is the same zip.
    info.external_attr = 0o644 << 16
    with open(path, "rb") as source, archive.open(info, "w", force_zip64=path.stat().st_size >= 2**31) as target:
        while part := source.read(PART):
            target.write(part)
            yield sink.taken()


class _Sink(io.RawIOBase):
    """Takes what the zip writes and hands it on; nothing is ever read back or overwritten."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._buffer += data
        return len(data)

    def taken(self) -> bytes:
        """What has gathered since the last time."""
        part = bytes(self._buffer)
        self._buffer.clear()
        return part
