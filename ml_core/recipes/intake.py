"""Intake: reads one upload into files by hash, thumbnails and a list of what is in them. Imports no torch.

Leaves in the job's folder: `blobs/<sha256>` (files as they came, and thumbnails), `items.jsonl` (one line per page:
what `ml_core.data.decoder.look` says, with `name`, `sha256` and `mask`) and `report.json` (what was refused, and why).
Which mask belongs to which image is decided at the commit, where the dataset's earlier images are known.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ml_core.context import PlainContext
from ml_core.data import archives, pairing
from ml_core.data.ahead import in_order
from ml_core.data.decoder import Decoder
from ml_core.data.readers import SUFFIXES, Refused
from ml_core.reporting import Stopped, sha256_of, write_whole
from ml_core.specs import IntakeSpec

DECODERS = 2
_OTHER = {".txt", ".md", ".csv", ".json", ".xml", ".html", ".pdf", ".py", ".yml", ".yaml", ".log", ""}
"""Read-mes, licences and tables that come along with images: named in the report, and no fault."""


@dataclass(frozen=True)
class Looked:
    """One file after its look: its pages, or why it was refused."""

    name: str
    sha256: str = ""
    size: int = 0
    mask: bool = False
    pages: tuple[dict[str, Any], ...] = ()
    refused: Refused | None = None


def run(context: PlainContext[IntakeSpec]) -> None:
    """Reads the upload in the slot `upload`. One bad file is refused by name, and the rest goes in."""
    source = context.inputs.path("upload")
    blobs = context.folder / "blobs"
    shutil.rmtree(blobs, ignore_errors=True)  # An earlier attempt in this folder starts over.
    blobs.mkdir(parents=True)
    report: dict[str, Any] = {"files": 0, "refused": [], "left_out": []}

    def lines(file: IO[bytes]) -> None:
        for looked in _all(context, source, blobs=blobs, report=report):
            if looked.refused is not None:
                _refuse(context, report, looked)
            for page in looked.pages:
                entry = {"name": looked.name, "sha256": looked.sha256, "size": looked.size, "mask": looked.mask, **page}
                file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")

    write_whole(context.folder / "items.jsonl", lines)
    os.sync()  # All blobs at once; one fsync per file would take an hour for half a million.
    write_whole(context.folder / "report.json", lambda file: file.write(json.dumps(report).encode()))
    context.reporter.results(files=report["files"], refused=len(report["refused"]))


def _all(context: PlainContext[IntakeSpec], source: Path, *, blobs: Path, report: dict[str, Any]) -> Iterator[Looked]:
    """Every file of the upload after its look, in order. Files are unpacked by one thread and decoded by two."""
    filename = context.spec.filename
    archive = archives.Archive(source, filename=filename) if archives.is_zip(source) else None
    members = archive.members if archive else [archives.Member(filename, source.stat().st_size)]
    wanted = [member for member in members if _is_wanted(member, report)]
    report["files"] = len(wanted)
    decoders: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
    started = [Decoder() for _ in range(min(DECODERS, 1 + len(wanted) // 8))]  # a start costs as much as 50 files
    for decoder in started:
        decoders.put(decoder)

    def jobs() -> Iterator[Callable[[], Looked]]:
        for number, member in enumerate(wanted):
            if context.reporter.should_stop():
                raise Stopped("Reading was stopped; it starts over when it is resumed.")
            arrived = blobs / f"incoming-{number}"
            looked = _arrived(member, source=source, archive=archive, to=arrived)
            yield lambda looked=looked, arrived=arrived: _looked(  # type: ignore[misc]
                looked, arrived, decoders=decoders, blobs=blobs, size=context.spec.thumbnail_size
            )

    context.reporter.progress(0, max(1, len(wanted)), "files")
    pool = ThreadPoolExecutor(max_workers=DECODERS)
    try:
        for done, looked in enumerate(in_order(pool, jobs(), ahead=4 * DECODERS), start=1):
            yield looked
            context.reporter.progress(done, len(wanted), "files")
    finally:
        pool.shutdown(cancel_futures=True)
        for decoder in started:
            decoder.close()
        if archive is not None:
            archive.close()


def _arrived(member: archives.Member, *, source: Path, archive: archives.Archive | None, to: Path) -> Looked:
    """Puts one file of the upload at `to`, hashing it on the way."""
    name = member.name
    if member.fault is not None:
        return Looked(name, refused=member.fault)
    if archive is None:
        try:
            os.link(source, to)
        except OSError:  # Another file system.
            shutil.copyfile(source, to)
        return Looked(name, sha256=sha256_of(to), size=member.size)
    digest = sha256()
    try:
        with archive.open(member) as stream, open(to, "wb") as file:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
        return Looked(name, sha256=digest.hexdigest(), size=member.size)
    except Refused as refused:
        to.unlink(missing_ok=True)
        return Looked(name, refused=refused)


def _looked(looked: Looked, arrived: Path, *, decoders: queue.SimpleQueue[Decoder], blobs: Path, size: int) -> Looked:
    if looked.refused is not None:
        return looked
    mask = bool(pairing.role_of(looked.name).layer)
    decoder = decoders.get()
    try:
        pages = decoder.look(arrived, name=looked.name, mask=mask, thumbnails=blobs, size=size)
    except Refused as refused:
        arrived.unlink(missing_ok=True)
        return Looked(looked.name, refused=refused)
    finally:
        decoders.put(decoder)
    os.replace(arrived, blobs / looked.sha256)
    return Looked(looked.name, sha256=looked.sha256, size=looked.size, mask=mask, pages=tuple(pages))


def _is_wanted(member: archives.Member, report: dict[str, Any]) -> bool:
    """Leaves out what comes along with images and is none; a file that looks like an image is never left out."""
    suffix = PurePosixPath(member.name).suffix.lower()
    if suffix in SUFFIXES or suffix not in _OTHER:
        return True
    if member.fault is None and len(report["left_out"]) < 1000:
        report["left_out"].append(member.name)
    return member.fault is not None


def _refuse(context: PlainContext[IntakeSpec], report: dict[str, Any], looked: Looked) -> None:
    assert looked.refused is not None
    entry = {"name": looked.name, "reason": looked.refused.reason, "remedy": looked.refused.remedy}
    report["refused"].append(entry)
    if len(report["refused"]) <= 100:
        context.reporter.note(
            f"{looked.name} was left out: {looked.refused.reason} {looked.refused.remedy}", level="warning"
        )
