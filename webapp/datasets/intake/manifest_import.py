"""Imports an exported revision: its manifest states what each file is, so nothing is guessed from names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ml_core.data.manifests import manifest as manifests
from ml_core.data.manifests.manifest import FileRef, ManifestItem
from ml_core.errors import UserError
from webapp.datasets.intake.staging import StagedItems
from webapp.datasets.models import Dataset, Item

Pages = Sequence[Mapping[str, Any]]


@dataclass
class BroughtIn:
    """What the manifests contained: their files, refusals, and how many items they added or changed."""

    files: set[str] = field(default_factory=set)
    refused: list[dict[str, str]] = field(default_factory=list)
    items: int = 0


def manifests_apply(catalogue: StagedItems, folder: Path, files: Mapping[str, Pages]) -> BroughtIn:
    """Takes the items of each manifest in an intake's `folder` into the catalogue.

    An existing item with the same pixels takes the manifest's values.
    """
    found = BroughtIn()
    images = {(page["sha256"], page["page"]): page for pages in files.values() for page in pages if not page["mask"]}
    masks = {(page["sha256"], page["page"]): page for pages in files.values() for page in pages if page["mask"]}
    for path in _manifests(folder):
        try:
            manifest = manifests.read(path)
        except UserError as error:
            found.refused.append(_refusal(manifests.EXPORTED, str(error), "Download the revision again."))
            continue
        catalogue.dataset.classes = {**manifest.classes, **catalogue.dataset.classes}
        if not catalogue.rows and manifest.kind in Dataset.Kind.values:  # else the kind that people have set stays
            catalogue.dataset.kind = manifest.kind
        there = catalogue.items([each.name for each in manifest.items])
        for each in manifest.items:
            _take(catalogue, each, there.get(each.name), images=images, masks=masks, found=found)
    return found


def _manifests(folder: Path) -> Iterator[Path]:
    path = folder / "manifests.jsonl"
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield folder / "blobs" / json.loads(line)["sha256"]


def _take(
    catalogue: StagedItems,
    each: ManifestItem,
    item: Item | None,
    *,
    images: Mapping[tuple[str, int], Mapping[str, Any]],
    masks: Mapping[tuple[str, int], Mapping[str, Any]],
    found: BroughtIn,
) -> None:
    facts = images.get((each.image.sha256, each.image.page))
    if facts is None:
        reason = "The manifest names its file, and the zip does not hold it, or holds it changed."
        found.refused.append(_refusal(each.name, reason, "Download the revision again, or leave the manifest out."))
        return
    found.files.add(facts["name"])
    if item is None:
        item = catalogue.add(each.name, facts, file=each.name.rpartition("#")[0])
    elif (item.image, item.page) != (each.image.sha256, each.image.page):
        reason = "The dataset holds another image of this name."
        found.refused.append(_refusal(each.name, reason, "Import the revision into a new dataset."))
        return
    if _set(item, each, _masks(item, each, masks, found)):
        catalogue.changed(item)
    found.items += 1


def _set(item: Item, each: ManifestItem, masks: dict[str, Any]) -> bool:
    """Updates the item from the manifest; returns whether that changed anything."""
    wanted = {
        "label": each.label,
        "group": each.group,
        "index": each.index,
        "split": each.split,
        "pixel_size_nm": each.pixel_size_nm,
        "low": each.low,
        "high": each.high,
        "masks": masks,
    }
    changed = [name for name, value in wanted.items() if getattr(item, name) != value]
    for name in changed:
        setattr(item, name, wanted[name])
    return bool(changed)


def _masks(
    item: Item, each: ManifestItem, masks: Mapping[tuple[str, int], Mapping[str, Any]], found: BroughtIn
) -> dict[str, Any]:
    """The item's masks by layer. One whose file did not come stays what it was, if it was any."""
    held = dict(item.masks)
    for layer, ref in each.masks.items():
        facts = masks.get((ref.sha256, ref.page))
        if facts is None:
            continue
        found.files.add(facts["name"])
        there = held.get(layer, {})
        if (there.get("sha256"), there.get("page"), there.get("only")) != (ref.sha256, ref.page, ref.only):
            held[layer] = _mask(facts, ref, layer=layer)
    return held


def _mask(facts: Mapping[str, Any], ref: FileRef, *, layer: str) -> dict[str, Any]:
    # As it was called before the export put it under masks/<layer>/.
    parts = PurePosixPath(facts["name"]).parts
    start = next((n + 2 for n in range(len(parts) - 2) if parts[n : n + 2] == ("masks", layer)), 0)
    name = str(PurePosixPath(*parts[start:]))
    known = {"sha256": ref.sha256, "page": ref.page, "name": name, "rule": "manifest"}
    if ref.only is None:
        return {**known, "values": facts["values"]}
    return {**known, "values": dict(ref.values), "only": ref.only}


def _refusal(name: str, reason: str, remedy: str) -> dict[str, str]:
    return {"name": name, "reason": reason, "remedy": remedy}
