"""Revisions: a dataset's items at one moment, written to a manifest that is never changed."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage

from ml_core.data.manifests import manifest
from ml_core.data.manifests.manifest import FileRef, Manifest, ManifestItem
from webapp.datasets.models import Blob, Dataset, Item, Revision
from webapp.datasets.revisions.leakage import LeakSearch
from webapp.projects.models import User

CHUNK = 5000


def revision_create(dataset: Dataset, *, number: int, change: str, user: User | None) -> Revision:
    """Writes down the items that belong to `dataset` now as its revision `number`. Runs in the caller's transaction."""
    summary = _Summary()
    with tempfile.TemporaryDirectory(prefix="cristae-manifest-") as folder:
        path = Path(folder) / "manifest.jsonl"
        sha256 = manifest.write(
            path,
            name=dataset.name,
            classes=dataset.classes,
            kind=dataset.kind,
            items=(_item(item) for item in summary.counted(_items_now(dataset))),
        )
        default_storage.put_file(path, sha256)  # type: ignore[attr-defined]
        Blob.objects.bulk_create([Blob(sha256=sha256, size=path.stat().st_size)], ignore_conflicts=True)
    return Revision.objects.create(
        dataset=dataset,
        number=number,
        manifest=sha256,
        items_count=summary.items,
        summary=summary.as_json(),
        change=change[:300],
        created_by=user,
    )


def revision_manifest(revision: Revision) -> Manifest:
    """The manifest of a revision, as its jobs read it. Raises ml_core.errors.UserError where it is missing."""
    return manifest.read(Path(default_storage.path(revision.manifest)))


def _items_now(dataset: Dataset) -> Iterator[Item]:
    """In order, a few thousand at a time. By ids and not by a cursor of the server: an iterator that an error leaves
    half read would close its cursor whenever Python happens to collect it, in the middle of another query."""
    current = Item.objects.filter(dataset=dataset, removed_in=None).order_by("position", "id")
    ids = list(current.values_list("pk", flat=True))
    for start in range(0, len(ids), CHUNK):
        yield from current.filter(pk__in=ids[start : start + CHUNK])


class _Summary:
    """Counts items as they pass by, so that half a million are read once."""

    def __init__(self) -> None:
        self.items = 0
        self._with_mask = 0
        self._counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("masks", "splits", "labels", "pixel_sizes", "problems")
        }
        self._sides: dict[str, Counter[str]] = defaultdict(Counter)
        self._masks: dict[str, Counter[str]] = defaultdict(Counter)
        """Label -> mask layer -> images; under the layer "", which none is called, those with any mask."""
        self._rules: dict[str, Counter[str]] = defaultdict(Counter)
        self._groups: set[str] = set()
        self._leaks = LeakSearch()

    def counted(self, items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            self.items += 1
            self._with_mask += bool(item.masks)
            self._counts["masks"].update(item.masks.keys())
            self._counts["splits"][item.split] += 1
            self._counts["labels"][item.label] += 1
            self._sides[item.label][item.split] += 1
            if item.masks:
                self._masks[item.label].update(["", *item.masks])
                for layer, mask in item.masks.items():
                    self._rules[layer][mask.get("rule", "")] += 1
            self._counts["pixel_sizes"]["" if item.pixel_size_nm is None else f"{item.pixel_size_nm:g}"] += 1
            self._counts["problems"].update({problem["kind"] for problem in item.problems})
            if item.group:
                self._groups.add(item.group)
            self._leaks.add(item)
            yield item

    def as_json(self) -> dict[str, Any]:
        return {
            "items": self.items,
            "with_mask": self._with_mask,
            "groups": len(self._groups),
            "leaks": self._leaks.found(),
            "label_splits": {label: dict(sides) for label, sides in sorted(self._sides.items())},
            "rules": {layer: dict(rules.most_common()) for layer, rules in sorted(self._rules.items())},
            "label_masks": {label: dict(layers) for label, layers in sorted(self._masks.items())},
            **{name: dict(sorted(counts.items())) for name, counts in self._counts.items()},
        }


def _item(item: Item) -> ManifestItem:
    return ManifestItem(
        name=item.name,
        image=FileRef(item.image, item.page),
        width=item.width,
        height=item.height,
        dtype=item.dtype,
        low=item.low,
        high=item.high,
        masks={
            layer: FileRef(m["sha256"], m["page"], values=m["values"], only=m.get("only"))
            for layer, m in item.masks.items()
        },
        label=item.label,
        group=item.group,
        index=item.index,
        pixel_size_nm=item.pixel_size_nm,
        split=item.split,
    )
