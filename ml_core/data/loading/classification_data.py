"""Collects the labelled items of a manifest for classification: class and split part of each. Imports no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml_core.data.manifests.manifest import Manifest
from ml_core.data.manifests.splits import Split
from ml_core.data.manifests.stratified_splits import stratified_split
from ml_core.data.naming.pairing import label_folders
from ml_core.errors import UserError

NAMED = 3
"""At most this many classes or images are named in one sentence."""


@dataclass(frozen=True)
class ClassificationData:
    """Items with a label. `positions` (N,) index the manifest's items, `labels` (N,) index `classes`.

    `train`, `validation` and `test` are indices into `positions`; `split` holds the rule, and positions.
    """

    positions: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    split: Split
    sentences: tuple[str, ...]
    """Notes for readers of the scores: where labels came from, what was left out, how the items were split."""

    def places(self, part: Literal["train", "validation", "test"]) -> NDArray[np.int64]:
        """The indices (n,) into `positions` of the items of a part."""
        return np.searchsorted(self.positions, getattr(self.split, part))

    @property
    def evaluated(self) -> Literal["validation", "test"]:
        """The part on which scores are computed: test, or validation where there is no test part."""
        return "test" if len(self.split.test) else "validation"


def labelled(manifest: Manifest, *, rule: Literal["dataset", "random"], seed: int) -> ClassificationData:
    """The labelled items of `manifest`, split 70/10/20. Raises UserError where there are too few to evaluate."""
    names, where = _names(manifest)
    positions = np.array([place for place, name in enumerate(names) if name], np.int64)
    classes = tuple(sorted({name for name in names if name}))
    if len(classes) == 1:
        raise UserError(
            f"All images have the label {classes[0]}, so there is nothing to tell apart. Add images of another class."
        )
    number = {name: place for place, name in enumerate(classes)}
    labels = np.array([number[names[position]] for position in positions], np.int64)
    split = stratified_split(manifest.items, positions=positions, labels=labels, classes=classes, rule=rule, seed=seed)
    _check(split, manifest, positions=positions, labels=labels, classes=classes)
    sentences = [*where, split.sentence]
    if len(positions) < len(manifest):
        sentences.insert(
            0, f"{len(manifest) - len(positions):,} of {len(manifest):,} images have no label and are left out."
        )
    return ClassificationData(positions, labels, classes, split, tuple(sentences))


def _names(manifest: Manifest) -> tuple[list[str], list[str]]:
    """The label of each item, empty where it has none, and notes about where the labels came from."""
    names = [item.label for item in manifest.items]
    if any(names):
        return names, []
    folders = [label_folders(item.name) for item in manifest.items]
    # Shared leading folders are skipped: `cem500k/mouse/1.png` and `cem500k/human/2.png` differ in their second.
    depth = 0
    while len({f[: depth + 1] for f in folders}) == 1 and len(folders[0]) > depth:
        depth += 1
    names = [f[depth] if len(f) > depth else "" for f in folders]
    if not any(names):
        raise UserError(
            "No image of this dataset has a label, so there is nothing to classify. Give the images labels, or put "
            "those of each class into a folder of its own."
        )
    return names, ["No image has a label of its own, so the folder that it lies in is taken for it."]


def _check(
    split: Split,
    manifest: Manifest,
    *,
    positions: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
) -> None:
    """Validates that every part contains every class, as training, model selection and evaluation need. Raises
    UserError."""
    parts = {"training": split.train, "validation": split.validation, "test": split.test}
    wanted = [name for name, part in parts.items() if len(part) or name != "test"]
    short = []
    for number, name in enumerate(classes):
        own = positions[labels == number]
        absent = [part for part in wanted if not np.isin(parts[part], own).any()]
        if absent:
            groups = Counter(manifest.items[p].group or f" {p}" for p in own.tolist())
            stacks = "" if max(groups.values()) == 1 else f" of {_counted(len(groups), 'stack')}"
            short.append(f"{name} ({_counted(len(own), 'image')}{stacks}, none for {' and '.join(absent)})")
    if short:
        more = f" and {len(short) - NAMED:,} more" if len(short) > NAMED else ""
        raise UserError(
            f"Too few images to stand in {', '.join(wanted[:-1])} and {wanted[-1]}: {', '.join(short[:NAMED])}{more}. "
            "Add images of such a class, of other stacks where it has few, or take its label away."
        )


def _counted(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'' if count == 1 else 's'}"
