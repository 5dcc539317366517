"""Recognises the folder layouts of published datasets, and folders that name classes. Imports no torch.

Lucchi++ and Kasthuri++ (Casser et al. 2020, casser.io) are zips with the folders `Train_In`, `Train_Out`, `Test_In`
and `Test_Out`. In Lucchi++ slices are called `mask0000.png` and their masks `0.png`. Masks are written in colour, with
255 for mitochondria, 0 for the rest and 2 for what lies outside of the tissue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from ml_core.data.naming.pairing import in_out_of, label_folders

CLASS_AT_LEAST = 2
"""Least number of images in a folder that counts as a class."""
MOST_CLASSES = 100
_PATCH = (224, 224)


def foreground_value(name: str) -> int | None:
    """The foreground value of a mask, where its published set uses further values that mark nothing."""
    found = in_out_of(name)
    return 255 if found is not None and found.is_mask else None


def sentences(names: Iterable[str]) -> list[str]:
    """Sentences for an upload's report about the published sets that were recognised in it."""
    known: Counter[str] = Counter()
    for name in names:
        found = in_out_of(name)
        if found is not None:
            known[found.set_name or "A set as Casser et al. publish theirs"] += 1
    return [
        f"{name}: recognised by its folders. Train_In and Test_In hold the images, Train_Out and Test_Out their masks; "
        "train and test are kept, and only 255 in a mask is foreground."
        for name in sorted(known)
    ]


def table_sentence(table: str, *, labelled: int, organisms: bool, sizes: Collection[tuple[int, int]]) -> str:
    """A sentence for the report about how a table was read."""
    if organisms and set(sizes) == {_PATCH}:
        return f"CEM500K: recognised by its table {table}. Labels are organisms ({labelled:,} images)."
    return f"Labels of {labelled:,} images from the table {table}."


def labels_by_folder(names: Iterable[str]) -> dict[str, str]:
    """Image name -> the folder that names its class; empty where the folders name none.

    Folders are classes where there are two or more siblings, each with images of its own, and every image is in one.
    `images/`, `train/` and the like are no classes and are skipped.
    """
    folders = {name: label_folders(name) for name in names}
    shared = _shared(folders.values())
    found = {name: path[len(shared)] for name, path in folders.items() if len(path) == len(shared) + 1}
    counts = Counter(found.values())
    if len(found) < len(folders) or not 2 <= len(counts) <= MOST_CLASSES or min(counts.values()) < CLASS_AT_LEAST:
        return {}
    return found


def folder_sentence(labels: Mapping[str, str]) -> str:
    """A sentence for the report about how folders were read as labels."""
    classes = sorted(set(labels.values()))
    shown = ", ".join(classes[:8]) + (f" and {len(classes) - 8} more" if len(classes) > 8 else "")
    return f"Labels of {len(labels):,} images from their folders: {shown}."


def table_folder(table: str) -> str:
    """The folder to which a table's paths are relative."""
    folder = str(PurePosixPath(table).parent)
    return "" if folder == "." else folder


def _shared(paths: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that all paths begin with."""
    shared: tuple[str, ...] | None = None
    for path in paths:
        if shared is None:
            shared = path
            continue
        while path[: len(shared)] != shared:
            shared = shared[:-1]
    return shared or ()
