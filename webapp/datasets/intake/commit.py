"""What an intake job has read becomes items: pairs masks, keeps blobs, makes a revision. One transaction, whole or not.

Names decide what belongs together, over the whole dataset: masks may come before their images or long after them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage
from django.db import transaction

from ml_core.data.naming import pairing
from ml_core.data.naming.pairing import Entry, Pairing
from ml_core.data.naming.stacks import natural
from webapp.datasets.intake import labels, manifest_import
from webapp.datasets.intake import report as intake_report
from webapp.datasets.intake.sort_positions import numbered_anew, positions_between
from webapp.datasets.intake.staging import CHUNK, StagedItems
from webapp.datasets.models import Blob, Dataset, Item, Revision, Upload
from webapp.datasets.revisions.manifests import revision_create
from webapp.projects.models import User


@transaction.atomic
def commit(dataset_id: int, folder: Path, *, user: User | None) -> dict[str, Any]:
    """Takes what lies in an intake's `folder` into the dataset; returns the report of its upload.

    The dataset's row is locked meanwhile, so uploads that end at the same time go in one after the other.
    """
    dataset = Dataset.objects.select_for_update().get(pk=dataset_id)
    read = json.loads((folder / "report.json").read_bytes())
    files = _read_files(folder / "items.jsonl")
    waiting = _unpaired_masks(dataset)

    staged = StagedItems(dataset)
    brought = manifest_import.manifests_apply(staged, folder, files)
    files = {name: pages for name, pages in files.items() if name not in brought.files}
    images = [pages for pages in files.values() if not pages[0]["mask"]]
    masks = {name: pages for name, pages in files.items() if pages[0]["mask"]}
    refused = [*read["refused"], *brought.refused, *staged.add_images(images)]
    paired = Pairing()
    every = {**waiting, **masks}
    if every:
        paired = pairing.pair([*staged.files(), *(Entry(name, len(pages)) for name, pages in every.items())])
        refused += staged.pair(paired, masks=every)
    if not brought.items:
        staged.regroup()
    applied = labels.tables_apply(staged, folder / "tables.jsonl")
    if not applied.labelled and not brought.items:
        applied = replace(labels.folders_apply(staged), unmatched=applied.unmatched)
    unpaired = [entry.name for entry in paired.unpaired]
    rules = Counter[str]()
    for found in (found for layers in paired.masks.values() for found in layers.values()):
        rules[found.rule] += len(every[found.name])
    report = {
        "files": read["files"],
        "added": len(staged.new),
        "masks": sum(rules.values()),
        "paired": dict(rules),
        "unpaired": unpaired,
        "already_there": sum(len(pages) for pages in images) + brought.items - len(staged.new),
        "refused": refused,
        "left_out": read["left_out"],
        "labels": {applied.source: applied.labelled} if applied.labelled else {},
        "rules": [*read.get("layouts", []), *applied.sentences],
        "unmatched": applied.unmatched,
        "waiting_masks": {name: masks[name] for name in unpaired if name in masks},
    }
    if staged.new or staged.touched:
        staged.find_problems()
        number = (
            1 + (Revision.objects.filter(dataset=dataset).order_by("-number").values_list("number").first() or [0])[0]
        )
        _keep_blobs(_hashes_of(staged), folder / "blobs")
        _write(staged, number=number)
        dataset.save(update_fields=["classes", "kind"])
        revision_create(dataset, number=number, change=_sentence(staged, report), user=user)
    _keep_blobs({page["sha256"] for pages in report["waiting_masks"].values() for page in pages}, folder / "blobs")
    _forget_waiting(dataset, still={*unpaired} - {*masks})
    return intake_report.shortened(report)


def _read_files(path: Path) -> dict[str, list[dict[str, Any]]]:
    """File name -> its pages, in order."""
    files: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            page = json.loads(line)
            files[page["name"]].append(page)
    return files


def _unpaired_masks(dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """Masks of earlier uploads whose images had not come."""
    found: dict[str, list[dict[str, Any]]] = {}
    for upload in _uploads_with_unpaired_masks(dataset):
        found |= upload.report["waiting_masks"]
    return found


def _forget_waiting(dataset: Dataset, *, still: set[str]) -> None:
    for upload in _uploads_with_unpaired_masks(dataset):
        left = {name: pages for name, pages in upload.report["waiting_masks"].items() if name in still}
        if len(left) < len(upload.report["waiting_masks"]):
            counts = {**upload.report.get("counts", {}), "unpaired": len(left)}
            changed = {"waiting_masks": left, "unpaired": list(left)[: intake_report.SHOWN], "counts": counts}
            Upload.objects.filter(pk=upload.pk).update(report={**upload.report, **changed})


def _uploads_with_unpaired_masks(dataset: Dataset) -> Iterable[Upload]:
    done = Upload.objects.filter(dataset=dataset, state=Upload.State.DONE, report__has_key="waiting_masks")
    return done.exclude(report__waiting_masks={}).order_by("created_at")


def _hashes_of(staged: StagedItems) -> set[str]:
    items = [*staged.new.values(), *staged.touched.values()]
    hashes = {mask["sha256"] for item in items for mask in item.masks.values()}
    return hashes | {sha256 for item in staged.new.values() for sha256 in (item.image, item.thumbnail)}


def _keep_blobs(hashes: Iterable[str], folder: Path) -> None:
    """Brings files into the storage. Those that are not in `folder` came with an earlier upload."""
    rows = []
    for sha256 in hashes:
        path = folder / sha256
        if path.exists():
            default_storage.put_file(path, sha256)  # type: ignore[attr-defined]
            rows.append(Blob(sha256=sha256, size=path.stat().st_size))
    if rows:
        default_storage.sync()  # type: ignore[attr-defined]  # before the rows that refer to the files
    # Sorted, so that two commits that bring the same files lock the rows in the same order.
    rows.sort(key=lambda blob: blob.sha256)
    Blob.objects.bulk_create(rows, batch_size=CHUNK, ignore_conflicts=True)


def _write(staged: StagedItems, *, number: int) -> None:
    """Writes new rows, and for each changed item a new row while the old one ends with the revision before."""
    new = sorted(staged.new.values(), key=lambda item: natural(item.name))
    positions = positions_between(
        [item.name for item in new], existing=[(row.name, row.position) for row in staged.rows.values()]
    )
    if positions is None:
        _number_anew(staged, new)
    else:
        for item, position in zip(new, positions, strict=True):
            item.position = position
    ids = list(staged.touched)
    for start in range(0, len(ids), CHUNK):
        Item.objects.filter(pk__in=ids[start : start + CHUNK]).update(removed_in=number)
    rows = [*new, *staged.touched.values()]
    for item in rows:
        item.pk = None
        item.added_in = number
        item._state.adding = True
    Item.objects.bulk_create(rows, batch_size=CHUNK)


def _number_anew(staged: StagedItems, new: list[Item]) -> None:
    """Gives every row of the dataset, of earlier revisions too, a new position; a rare thing."""
    rows = list(Item.objects.filter(dataset=staged.dataset).only("id", "name"))
    names = sorted({row.name for row in rows} | {item.name for item in new})
    places = dict(zip(names, numbered_anew(names), strict=True))
    for item in [*rows, *new, *staged.touched.values()]:
        item.position = places[item.name]
    Item.objects.bulk_update(rows, ["position"], batch_size=CHUNK)


def _sentence(staged: StagedItems, report: Mapping[str, Any]) -> str:
    """What the revision changed, for the dataset's history."""
    parts = []
    if added := report["added"]:
        parts.append(f"{added:,} {'image' if added == 1 else 'images'} added")
    if masks := report["masks"]:
        rules = " and ".join(f"by {rule}" for rule in sorted(report["paired"]))
        parts.append(f"{masks:,} {'mask' if masks == 1 else 'masks'} paired {rules}")
    for source, count in report["labels"].items():
        parts.append(f"{count:,} {'label' if count == 1 else 'labels'} from {source}")
    if not parts:
        parts.append(f"{len(staged.touched):,} images sorted into stacks")
    return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:] + "."
