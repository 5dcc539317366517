"""Intake: reads one upload into files by hash, thumbnails and a list of what is in them. Imports no torch.

Leaves in the job's folder: `blobs/<sha256>` (files as they came, and thumbnails), `items.jsonl` (one line per page:
what `data.formats.decoder.inspect_file` returns, with `name`, `sha256` and `mask`), `tables.jsonl` (the labels
of label tables by image name), `manifests.jsonl` (hashes of manifests of exported revisions, kept among the blobs) and
`report.json` (refused files, each with its reason). Masks are paired with images at the commit, where the dataset's
earlier images are known.

Every `FILES_PER_CHECKPOINT` files all is synced to the disk at once and a checkpoint stores how far it is; the next
attempt resumes from there.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from ml_core.data.archives import entries as archive_entries
from ml_core.data.archives import reader
from ml_core.data.arrays.prefetch import ordered_map
from ml_core.data.formats.decoder import Decoder
from ml_core.data.formats.image_file import Refused
from ml_core.data.formats.readers import SUFFIXES
from ml_core.data.manifests import manifest
from ml_core.data.naming import label_tables, pairing, published_sets
from ml_core.errors import Stopped
from ml_core.job import checkpoints, journal
from ml_core.job.context import PlainContext
from ml_core.job.files import sha256_of, write_whole
from ml_core.job.journal import Journal
from ml_core.specs import IntakeSpec

DECODERS = 2
FILES_PER_CHECKPOINT = 500
_LISTS = ("items", "tables", "manifests", "refused", "left_out")
_OTHER = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".html", ".pdf", ".py", ".yml", ".yaml", ".log", ".rst", ""}
"""Read-mes, licences and tables that accompany images: listed in the report, and not an error."""
_MOST_LEFT_OUT = 1000
_MOST_NOTES = 100


@dataclass(frozen=True)
class Looked:
    """One inspected file: its pages, the entries of its table, or why it was refused."""

    name: str
    sha256: str = ""
    size: int = 0
    mask: bool = False
    pages: tuple[dict[str, Any], ...] = ()
    entries: tuple[label_tables.Entry, ...] = ()
    manifest: bool = False
    left_out: bool = False
    refused: Refused | None = None


def run(context: PlainContext[IntakeSpec]) -> None:
    """Reads the upload in the slot `upload`. A bad file is refused by name, and all others are taken in."""
    source = context.inputs.path("upload")
    archive = reader.opened(source, filename=context.spec.filename)
    try:
        reading = _Reading(context, source, archive)
        try:
            reading.read()
        finally:
            reading.close()
    finally:
        if archive is not None:
            archive.close()


class _Reading:
    """The state of reading one upload: its path, the files to read, how far it is."""

    def __init__(
        self, context: PlainContext[IntakeSpec], source: Path, archive: archive_entries.Archive | None
    ) -> None:
        self._context = context
        self._source = source
        self._archive = archive
        members = archive.members if archive else [archive_entries.Member(context.spec.filename, source.stat().st_size)]
        self._left_out: list[str] = []
        self._notes = 0
        self._wanted = [member for member in members if self._is_wanted(member)]
        self._blobs = context.folder / "blobs"
        shutil.rmtree(self._blobs, ignore_errors=True)
        self._blobs.mkdir(parents=True)
        self._done, self._journal = self._begin()
        self._decoders: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        left = len(self._wanted) - self._done
        # Starting a decoder takes as long as reading 50 files.
        self._started = [Decoder() for _ in range(min(DECODERS, 1 + left // 50))]
        for decoder in self._started:
            self._decoders.put(decoder)

    def close(self) -> None:
        for decoder in self._started:
            decoder.close()
        self._journal.close()

    def read(self) -> None:
        total = len(self._wanted)
        reporter = self._context.reporter
        reporter.progress(self._done, max(1, total), "files")
        pool = ThreadPoolExecutor(max_workers=len(self._started))
        try:
            for looked in ordered_map(pool, self._jobs(), ahead=4 * len(self._started)):
                self._keep(looked)
                self._done += 1
                if total > 1:
                    reporter.progress(self._done, total, "files")
                if self._done % FILES_PER_CHECKPOINT == 0 and self._done < total:
                    self._checkpoint()
        except Stopped:
            if self._done:
                self._checkpoint()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        self._finish()

    def _begin(self) -> tuple[int, Journal]:
        """Where to start: at the checkpoint of an earlier attempt, if it is of this upload and complete."""
        folder, resume = self._context.folder, self._context.inputs.resume
        if resume is not None:
            earlier = resume.parent.parent
            try:
                state = json.loads((resume / "state.json").read_bytes())
                if state["upload"] == self._upload():
                    journal.adopt(earlier / "blobs", self._blobs, leave="incoming-")
                    return int(state["done"]), Journal(folder, names=_LISTS, after=(earlier, state["mark"]))
            except (OSError, ValueError, KeyError):
                self._context.reporter.note(
                    "What the earlier attempt had read is not all there any more, so reading starts over.",
                    level="warning",
                )
        return 0, Journal(folder, names=_LISTS)

    def _upload(self) -> dict[str, Any]:
        """The facts that identify this upload."""
        size = self._source.stat().st_size
        return {"filename": self._context.spec.filename, "size": size, "files": len(self._wanted)}

    def _checkpoint(self) -> None:
        journal.sync(self._blobs)
        state = {"done": self._done, "upload": self._upload(), "mark": self._journal.mark()}
        content = json.dumps(state).encode()
        folder = self._context.folder / "checkpoints"
        path = checkpoints.save(folder, step=self._done, files={"state.json": lambda file: file.write(content)})
        self._context.reporter.checkpoint(self._done, path)
        checkpoints.prune(folder)

    def _finish(self) -> None:
        folder = self._context.folder
        journal.sync(self._blobs)
        self._journal.mark()
        refused = list(self._journal.entries("refused"))
        recognised = published_sets.sentences(entry["name"] for entry in self._journal.entries("items"))
        left_out = [*self._left_out, *(entry["name"] for entry in self._journal.entries("left_out"))]
        self._journal.become("items", folder / "items.jsonl")
        self._journal.become("tables", folder / "tables.jsonl")
        self._journal.become("manifests", folder / "manifests.jsonl")
        report = {
            "files": len(self._wanted),
            "refused": refused,
            "left_out": left_out[:_MOST_LEFT_OUT],
            "layouts": recognised,
        }
        write_whole(folder / "report.json", lambda file: file.write(json.dumps(report).encode()))
        self._context.reporter.results(files=report["files"], refused=len(refused))

    def _jobs(self) -> Iterator[Callable[[], Looked]]:
        """A job per file not read yet. Files are unpacked here, in one thread, and inspected in the pool's threads."""
        alone = self._archive is None
        for number in range(self._done, len(self._wanted)):
            self._stop_if_asked()
            arrived = self._blobs / f"incoming-{number}"
            looked = self._arrived(self._wanted[number], to=arrived)
            progress = self._page_read if alone else None
            yield partial(self._inspected, looked, arrived, progress=progress)

    def _page_read(self, done: int, total: int) -> None:
        """Reports the slices read of an upload of one file, which may be a large stack."""
        if total > 1:
            self._context.reporter.progress(done, total, "slices")
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._context.reporter.should_stop():
            raise Stopped("Reading was stopped; it goes on where it was when it is resumed.")

    def _arrived(self, member: archive_entries.Member, *, to: Path) -> Looked:
        """Puts one file of the upload at `to`, hashing it on the way."""
        name = member.name
        if member.fault is not None:
            return Looked(name, refused=member.fault)
        if self._archive is None:
            try:
                os.link(self._source, to)
            except OSError:  # Another file system.
                shutil.copyfile(self._source, to)
            return Looked(name, size=member.size)  # hashed beside its decoder, as it may be of gigabytes
        digest = sha256()
        try:
            with self._archive.open(member) as stream, open(to, "wb", buffering=0) as file:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
            return Looked(name, sha256=digest.hexdigest(), size=member.size)
        except Refused as refused:
            to.unlink(missing_ok=True)
            return Looked(name, refused=refused)

    def _inspected(self, looked: Looked, arrived: Path, *, progress: Callable[[int, int], None] | None) -> Looked:
        if looked.refused is not None:
            return looked
        if PurePosixPath(looked.name).name == manifest.EXPORTED:
            digest = looked.sha256 or sha256_of(arrived)
            os.replace(arrived, self._blobs / digest)
            return replace(looked, sha256=digest, manifest=True)
        if PurePosixPath(looked.name).suffix.lower() in label_tables.SUFFIXES:
            return _read_table(looked, arrived)
        mask = bool(pairing.role_of(looked.name).layer)
        marked = published_sets.foreground_value(looked.name) if mask else None
        decoder = self._decoders.get()
        hashing = ThreadPoolExecutor(max_workers=1) if not looked.sha256 else None
        hashed = hashing.submit(sha256_of, arrived) if hashing else None
        try:
            pages = decoder.inspect_file(
                arrived,
                name=looked.name,
                mask=mask,
                thumbnails=self._blobs,
                size=self._context.spec.thumbnail_size,
                marked=marked,
                progress=progress,
            )
        except Refused as refused:
            arrived.unlink(missing_ok=True)
            return Looked(looked.name, refused=refused)
        finally:
            self._decoders.put(decoder)
            if hashing is not None:
                hashing.shutdown()
        digest, size = hashed.result() if hashed else looked.sha256, looked.size
        if marked is not None:  # the decoder may have put a cleaned mask in its place
            digest, size = sha256_of(arrived), arrived.stat().st_size
        os.replace(arrived, self._blobs / digest)
        return Looked(looked.name, sha256=digest, size=size, mask=mask, pages=tuple(pages))

    def _is_wanted(self, member: archive_entries.Member) -> bool:
        """Whether to read a file: not one that accompanies images; a file that looks like an image is always read."""
        suffix = PurePosixPath(member.name).suffix.lower()
        if suffix in SUFFIXES or suffix not in _OTHER or suffix in label_tables.SUFFIXES or member.fault is not None:
            return True
        if len(self._left_out) < _MOST_LEFT_OUT:
            self._left_out.append(archive_entries.shown(member.name))
        return False

    def _keep(self, looked: Looked) -> None:
        name = looked.name
        if looked.refused is not None:
            self._refuse(archive_entries.shown(name), looked.refused)
        elif looked.left_out:
            self._journal.add("left_out", {"name": archive_entries.shown(name)})
        if looked.manifest:
            self._journal.add("manifests", {"sha256": looked.sha256})
        for page in looked.pages:
            entry = {"name": name, "sha256": looked.sha256, "size": looked.size, "mask": looked.mask, **page}
            self._journal.add("items", entry)
        for said in looked.entries:
            self._journal.add("tables", {"table": name, **said.as_json()})

    def _refuse(self, name: str, why: Refused) -> None:
        self._journal.add("refused", {"name": name, "reason": why.reason, "remedy": why.remedy})
        self._notes += 1
        if self._notes <= _MOST_NOTES:
            self._context.reporter.note(f"{name} was left out: {why.reason} {why.remedy}", level="warning")


def _read_table(looked: Looked, arrived: Path) -> Looked:
    """Reads a table of labels; a table of something else is left out."""
    try:
        if looked.size > label_tables.MAX_BYTES:
            raise Refused(f"The table is {looked.size:,} bytes long.", "Leave out the columns that are not needed.")
        with open(arrived, "rb") as stream:
            entries = label_tables.read(stream)
            found = tuple(entries) if entries is not None else ()
    except Refused as refused:
        return Looked(looked.name, refused=refused)
    finally:
        arrived.unlink(missing_ok=True)
    return Looked(looked.name, entries=found, left_out=entries is None)
