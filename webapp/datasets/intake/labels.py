"""What tables and folders say of a dataset's images becomes labels, splits, groups and pixel sizes of its items."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ml_core.data.archives.entries import shown
from ml_core.data.naming import published_sets
from ml_core.data.naming.label_tables import Entry, Finder
from webapp.datasets.intake.staging import Catalogue


@dataclass
class Told:
    """How many images got a label, by which rule, and which entries of tables named no image."""

    labelled: int = 0
    source: str = ""
    """"labels.csv", or "folders"."""
    sentences: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)


def tables_apply(catalogue: Catalogue, path: Path) -> Told:
    """What the tables of an upload say of the images that are there and that come; a later table wins."""
    told = Told()
    for table, entries in _tables(path).items():
        finder = Finder(entries, folder=published_sets.table_folder(table))
        labelled, sizes = catalogue.tell(finder)
        organisms = any(entry.facts.get("organism", "") == entry.label != "" for entry in entries)
        if labelled:
            told.labelled += labelled
            told.source = f"{told.source} and {table}" if told.source else table
            told.sentences.append(
                published_sets.table_sentence(table, labelled=labelled, organisms=organisms, sizes=sizes)
            )
        told.unmatched += [shown(name) for name in finder.unused]
    return told


def folders_apply(catalogue: Catalogue) -> Told:
    """Folders per class, where nobody has said otherwise: the dataset has no masks, and no image another label."""
    if catalogue.has_masks():
        return Told()
    labels = published_sets.labels_by_folder(entry.name for entry in catalogue.files())
    if not labels:
        return Told()
    labelled = catalogue.label(labels)
    return Told(labelled, "folders", [published_sets.folder_sentence(labels)] if labelled else [])


def _tables(path: Path) -> dict[str, list[Entry]]:
    """Table -> its entries. An intake of an earlier version has left no such file."""
    found: dict[str, list[Entry]] = defaultdict(list)
    if path.exists():
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                found[entry.pop("table")].append(Entry(**entry))
    return found
