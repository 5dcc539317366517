"""Builds the manifest of a local folder of micrographs, for the command line. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ml_core.data.formats import readers
from ml_core.data.manifests.manifest import VERSION, FileRef, Manifest, ManifestItem, json_line
from ml_core.data.naming import label_tables, pairing, published_sets, stacks
from ml_core.errors import UserError
from ml_core.imaging import mask_values
from ml_core.imaging.mask_values import only_value
from ml_core.job.files import sha256_of


def from_folder(folder: Path, *, name: str = "") -> Manifest:
    """The manifest of a folder of micrographs and masks, paired by the rules of `ml_core.data.naming.pairing`,
    with the labels from tables in it (`labels.csv`).

    A refused file raises UserError: at a terminal, the user who named the folder can correct it.
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
    places = stacks.places([(e.name, headers[e.name].width, headers[e.name].height) for e in paired.images])
    finders = _tables(folder)
    items: list[ManifestItem] = []
    for image in sorted(paired.images, key=lambda entry: stacks.natural(entry.name)):
        header = headers[image.name]
        low, high = readers.window_of(folder / image.name, header)
        told = next((entry for finder in finders if (entry := finder.find(image.name))), label_tables.Entry(""))
        for page in range(header.pages):
            place = places[image.name].at(page, of=image)
            items.append(
                ManifestItem(
                    name=stacks.page_name(image.name, page, pages=header.pages),
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
    digest = hashlib.sha256(json_line({"version": VERSION, "name": manifest.name, "classes": {}}))
    for item in items:
        digest.update(json_line(item.as_json()))
    return replace(manifest, sha256=digest.hexdigest())


def _tables(folder: Path) -> list[label_tables.LabelLookup]:
    """The tables of labels in a folder, later names first, as a later upload takes precedence."""
    found = []
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.suffix.lower() not in label_tables.SUFFIXES or not path.is_file() or path.name.startswith("."):
            continue
        name = path.relative_to(folder).as_posix()
        try:
            with open(path, "rb") as stream:
                entries = label_tables.read(stream)
                if entries is not None:
                    found.append(label_tables.LabelLookup(entries, folder=published_sets.table_folder(name)))
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
    only = published_sets.foreground_value(name)
    if only is not None:
        mask = only_value(mask, only)
    return replace(_ref(folder, name, page, hashes), values=mask_values.value_counts(mask), only=only)
