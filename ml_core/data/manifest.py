"""The manifest: what a dataset holds at one time, one line per item (`docs/contracts.md`). Imports no torch.

A manifest that a server made names files by their SHA-256 alone. One that was made of a folder for the command line
also says where each file lies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ml_core.data import label_tables, layouts, pairing, readers
from ml_core.reporting import UserError, sha256_of, write_whole

VERSION = 1
MICROGRAPHS = "micrographs"
EXPORTED = "cristae-manifest.jsonl"
"""What a manifest is called in the zip of a revision; an intake takes its word for names, sides, labels and masks."""


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
        """Where the file lies: at its own path, or under its hash in the folder `blobs`. Raises UserError."""
        if self.path:
            return Path(self.path)
        if blobs is None:
            raise UserError("The manifest names files by hash, and no folder of blobs was given to find them in.")
        return blobs / self.sha256[:2] / self.sha256


@dataclass(frozen=True, slots=True)
class ManifestItem:
    """One 2-D image. `low` and `high`, in the file's own units, are trained on as 0 and 255."""

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

    `classes` is mask layer -> {"value": {"name", "colour"}}, empty where nobody has named the classes.
    """

    name: str
    items: tuple[ManifestItem, ...]
    classes: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    kind: str = MICROGRAPHS
    """What the dataset holds; the file names it where it is another."""

    def __len__(self) -> int:
        return len(self.items)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the mask layers, sorted."""
        return tuple(sorted({layer for item in self.items for layer in item.masks}))

    def write(self, path: Path) -> str:
        """Writes the file whole and returns its SHA-256."""
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
    """The items of a manifest one by one, for those that need not hold half a million at once."""
    with open(path, "rb") as file:
        yield from _parse(file)[1]


def write(
    path: Path, *, name: str, classes: Mapping[str, Any], items: Iterable[ManifestItem], kind: str = MICROGRAPHS
) -> str:
    """Writes a manifest whole, item by item as they come, and returns its SHA-256."""

    def lines(file: IO[bytes]) -> None:
        named = {} if kind == MICROGRAPHS else {"kind": kind}
        file.write(_line({"version": VERSION, "name": name, "classes": classes, **named}))
        for item in items:
            file.write(_line(item.as_json()))

    return write_whole(path, lines)


def from_folder(folder: Path, *, name: str = "") -> Manifest:
    """The manifest of a folder of micrographs and masks, paired by the rules of `ml_core.data.pairing`, with what
    tables in it (`labels.csv`) say.

    A file that cannot be taken ends it with UserError: at a terminal, whoever gave the folder can mend it.
    """
    names = sorted(
        str(path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() in readers.SUFFIXES and not path.name.startswith(".")
    )
    headers = {name: _inspect(folder, name) for name in names}
    paired = pairing.pair([pairing.Entry(name, pages=header.pages) for name, header in headers.items()])
    if not paired.images:
        raise UserError(f"There are no PNG, JPEG, TIFF, MRC or .npy images in {folder}.")
    hashes = {name: sha256_of(folder / name) for name in names}
    places = pairing.places([(e.name, headers[e.name].width, headers[e.name].height) for e in paired.images])
    finders = _tables(folder)
    items: list[ManifestItem] = []
    for image in sorted(paired.images, key=lambda entry: pairing.natural(entry.name)):
        header = headers[image.name]
        low, high = readers.window_of(folder / image.name, header)
        told = next((entry for finder in finders if (entry := finder.find(image.name))), label_tables.Entry(""))
        for page in range(header.pages):
            place = places[image.name].at(page, of=image)
            items.append(
                ManifestItem(
                    name=pairing.page_name(image.name, page, pages=header.pages),
                    image=_ref(folder, image.name, page, hashes),
                    width=header.width,
                    height=header.height,
                    dtype=header.dtype,
                    low=low,
                    high=high,
                    masks={
                        layer: _mask_ref(folder, found.name, page, hashes, header)
                        for layer, found in paired.masks.get(image.name, {}).items()
                    },
                    label=told.label,
                    group=told.group or place.group,
                    index=place.index,
                    pixel_size_nm=told.pixel_size_nm or header.pixel_size_nm,
                    split=told.split or place.split,
                )
            )
    manifest = Manifest(name or folder.resolve().name, tuple(items))
    digest = hashlib.sha256(_line({"version": VERSION, "name": manifest.name, "classes": {}}))
    for item in items:
        digest.update(_line(item.as_json()))
    return replace(manifest, sha256=digest.hexdigest())


def _tables(folder: Path) -> list[label_tables.Finder]:
    """The tables of labels in a folder, later names first, as a later upload would win."""
    found = []
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.suffix.lower() not in label_tables.SUFFIXES or not path.is_file() or path.name.startswith("."):
            continue
        name = path.relative_to(folder).as_posix()
        try:
            with open(path, "rb") as stream:
                entries = label_tables.read(stream)
                if entries is not None:
                    found.append(label_tables.Finder(entries, folder=layouts.table_folder(name)))
        except readers.Refused as refused:
            raise UserError(f"{path}: {refused}") from refused
    return found


def _inspect(folder: Path, name: str) -> readers.Header:
    try:
        return readers.inspect(folder / name, name=name)
    except readers.Refused as refused:
        raise UserError(f"{folder / name}: {refused}") from refused


def _ref(folder: Path, name: str, page: int, hashes: Mapping[str, str]) -> FileRef:
    return FileRef(sha256=hashes[name], page=page, path=str((folder / name).resolve()))


def _mask_ref(folder: Path, name: str, page: int, hashes: Mapping[str, str], header: readers.Header) -> FileRef:
    try:
        mask = readers.read_mask(folder / name, page=page)
    except readers.Refused as refused:
        raise UserError(f"{folder / name}: {refused}") from refused
    if mask.shape != (header.height, header.width):
        raise UserError(
            f"{folder / name}: The mask is {mask.shape[1]:,} x {mask.shape[0]:,} px and its image {header.width:,} x "
            f"{header.height:,} px. Export the mask at the image's size."
        )
    only = layouts.marked_value(name)
    if only is not None:
        mask = only_value(mask, only)
    return replace(_ref(folder, name, page, hashes), values=pairing.value_counts(mask), only=only)


def only_value(mask: NDArray[np.uint8], value: int) -> NDArray[np.uint8]:
    """A mask (H, W) of which just this value is left; the rest becomes 0."""
    return np.where(mask == value, mask, np.uint8(0))


def _ref_as_json(ref: FileRef, *, values: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"sha256": ref.sha256, "page": ref.page}
    if ref.path:
        found["path"] = ref.path
    if values:
        found["values"] = dict(ref.values)
    if ref.only is not None:
        found["only"] = ref.only
    return found


def _line(data: Mapping[str, Any]) -> bytes:
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
