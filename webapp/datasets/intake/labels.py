"""Applies tables and folders to a dataset's items: labels, splits, groups and pixel sizes."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ml_core.data.archives.entries import shown
from ml_core.data.naming import published_sets
from ml_core.data.naming.label_tables import Entry, LabelLookup
from webapp.datasets.intake.staging import StagedItems


@dataclass
class AppliedLabels:
    """How many images got a label, by which rule, and which entries of tables named no image."""

    labelled: int = 0
    source: str = ""
    """"labels.csv", or "folders"."""
    sentences: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)


def tables_apply(staged: StagedItems, path: Path) -> AppliedLabels:
    """The rows of an upload's tables for the images that exist or are being added; a later table wins."""
    applied = AppliedLabels()
    for table, entries in _tables(path).items():
        lookup = LabelLookup(entries, folder=published_sets.table_folder(table))
        labelled, sizes = staged.apply_table(lookup)
        organisms = any(entry.facts.get("organism", "") == entry.label != "" for entry in entries)
        if labelled:
            applied.labelled += labelled
            applied.source = f"{applied.source} and {table}" if applied.source else table
            applied.sentences.append(
                published_sets.table_sentence(table, labelled=labelled, organisms=organisms, sizes=sizes)
            )
        applied.unmatched += [shown(name) for name in lookup.unused]
    return applied


def folders_apply(staged: StagedItems) -> AppliedLabels:
    """Labels from folders per class, unless others were set: the dataset has no masks, and no image another label."""
    if staged.has_masks():
        return AppliedLabels()
    labels = published_sets.labels_by_folder(entry.name for entry in staged.files())
    if not labels:
        return AppliedLabels()
    labelled = staged.label(labels)
    return AppliedLabels(labelled, "folders", [published_sets.folder_sentence(labels)] if labelled else [])


def _tables(path: Path) -> dict[str, list[Entry]]:
    """Table -> its entries. An intake of an earlier version has left no such file."""
    found: dict[str, list[Entry]] = defaultdict(list)
    if path.exists():
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                found[entry.pop("table")].append(Entry(**entry))
    return found
