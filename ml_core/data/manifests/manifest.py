"""Reads and writes manifests: the contents of a dataset's revision, one line per item (`docs/contracts.md`).

A manifest that a server wrote names files by their SHA-256 alone. One that was built from a folder for the command
line also contains the path of each file. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ml_core.errors import UserError
from ml_core.job.files import sha256_of, write_whole

VERSION = 1


MICROGRAPHS = "micrographs"


EXPORTED = "cristae-manifest.jsonl"
"""Name of the manifest in the zip of a revision; an intake of that zip takes names, split, labels and masks from it."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """One page of a file. `values` counts the pixels of each value and is known for masks only.

    With `only`, every other value of a mask counts as background.
    """

    sha256: str
    page: int = 0
    path: str = ""
    values: Mapping[str, int] = field(default_factory=dict)
    only: int | None = None

    def locate(self, blobs: Path | None) -> Path:
        """The file's path: its own, or that under its hash in the folder `blobs`. Raises UserError."""
        if self.path:
            return Path(self.path)
        if blobs is None:
            raise UserError("The manifest names files by hash, and no folder of blobs was given to find them in.")
        return blobs / self.sha256[:2] / self.sha256


@dataclass(frozen=True, slots=True)
class ManifestItem:
    """One 2-D image. `low` and `high`, in the file's own units, become 0 and 255 in training."""

    name: str
    image: FileRef
    width: int
    height: int
    dtype: str
    low: float
    high: float
    masks: Mapping[str, FileRef] = field(default_factory=dict)
    label: str = ""
    group: str = ""
    index: int = 0
    pixel_size_nm: float | None = None
    split: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "image": _ref_as_json(self.image),
            "width": self.width,
            "height": self.height,
            "dtype": self.dtype,
            "low": self.low,
            "high": self.high,
            "masks": {layer: _ref_as_json(ref, values=True) for layer, ref in self.masks.items()},
            "label": self.label,
            "group": self.group,
            "index": self.index,
            "pixel_size_nm": self.pixel_size_nm,
            "split": self.split,
        }


@dataclass(frozen=True)
class Manifest:
    """All items of a dataset, in order of position. `sha256` is that of the file and names the revision.

    `classes` is mask layer -> {"value": {"name", "colour"}}, empty where the classes have no names.
    """

    name: str
    items: tuple[ManifestItem, ...]
    classes: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    kind: str = MICROGRAPHS
    """The kind of the dataset's items; written to the file only where it is not the default."""

    def __len__(self) -> int:
        return len(self.items)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the mask layers, sorted."""
        return tuple(sorted({layer for item in self.items for layer in item.masks}))

    def write(self, path: Path) -> str:
        """Writes the file atomically and returns its SHA-256."""
        return write(path, name=self.name, classes=self.classes, items=self.items, kind=self.kind)


def read(path: Path) -> Manifest:
    """Reads a manifest. Raises UserError where it is missing or damaged."""
    try:
        with open(path, "rb") as file:
            header, items = _parse(file)
            held = tuple(items)
        kind = header.get("kind", MICROGRAPHS)
        return Manifest(header["name"], held, header.get("classes") or {}, sha256=sha256_of(path), kind=kind)
    except FileNotFoundError as error:
        raise UserError(
            f"The list of the dataset's images is missing: there is no file {path}. Restore it from a backup, or add "
            "the images again."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a manifest of version {VERSION}: {error}.") from error


def stream(path: Path) -> Iterator[ManifestItem]:
    """Yields the items of a manifest one by one, so that half a million need not be in memory at once."""
    with open(path, "rb") as file:
        yield from _parse(file)[1]


def write(
    path: Path, *, name: str, classes: Mapping[str, Any], items: Iterable[ManifestItem], kind: str = MICROGRAPHS
) -> str:
    """Writes a manifest atomically, item by item from an iterable, and returns its SHA-256."""

    def lines(file: IO[bytes]) -> None:
        named = {} if kind == MICROGRAPHS else {"kind": kind}
        file.write(json_line({"version": VERSION, "name": name, "classes": classes, **named}))
        for item in items:
            file.write(json_line(item.as_json()))

    return write_whole(path, lines)


def _ref_as_json(ref: FileRef, *, values: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"sha256": ref.sha256, "page": ref.page}
    if ref.path:
        found["path"] = ref.path
    if values:
        found["values"] = dict(ref.values)
    if ref.only is not None:
        found["only"] = ref.only
    return found


def json_line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _parse(file: IO[bytes]) -> tuple[dict[str, Any], Iterator[ManifestItem]]:
    header = json.loads(file.readline())
    if not isinstance(header, dict) or header.get("version") != VERSION:
        raise ValueError("its first line does not say its version")
    return header, map(_item, file)


def _item(line: bytes) -> ManifestItem:
    raw = json.loads(line)
    raw["image"] = FileRef(**raw["image"])
    raw["masks"] = {layer: FileRef(**ref) for layer, ref in raw["masks"].items()}
    return ManifestItem(**raw)
