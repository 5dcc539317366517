"""Titles, remedies and one-click fixes of the problems on a dataset's doctor tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webapp.datasets.models import Item, Revision
from webapp.datasets.queries.filters import with_problem
from webapp.datasets.queries.mask_counts import UnknownValue, empty_layers, unknown_values
from webapp.datasets.revisions.problems import TITLES

EXAMPLES = 12
"""Items that the doctor shows of each kind of problem."""


RULES = {
    "folder": "by folder",
    "suffix": "by suffix",
    "stack": "stack with stack",
    "numbers": "by the numbers in their names",
    "hand": "by hand",
}


REMEDIES = {
    "unpaired": "Add the missing masks under the names of their images. Images without one are left out of training a "
    "segmentation, and used for everything else.",
    "empty_mask": "Right where there is nothing to mark: keep them as “nothing here”. Where nobody has annotated yet, "
    "unpair them, or export them again and add them here.",
    "unknown_values": "Name each value, or export these masks again with the values of the others and add them.",
    "size_mismatch": "Export these masks at the size of their images, and add them here.",
    "constant": "Nothing can be learned from them. Export them again, or leave them out.",
    "duplicate": "The same image in training and test makes scores too high. Leave one of each pair out.",
    "inverted": "In them a network mistakes bright for dark. Inverting turns what is shown and trained on; the stored "
    "pixels stay as they are.",
    "colour": "Electron micrographs are grey; check whether these belong here.",
}


FIXES = {
    "constant": ("remove", "Leave all out"),
    "duplicate": ("remove", "Leave the second of each out"),
    "colour": ("remove", "Leave all out"),
    "inverted": ("invert", "Invert all"),
}
"""Kind of problem -> the action that fixes it and the text of its button."""


@dataclass(frozen=True)
class Finding:
    """A kind of problem with what to do. `fix` is a cure by one click and its words; empty where there is none."""

    kind: str
    title: str
    remedy: str
    count: int
    items: list[Item]
    fix: tuple[str, str] | None
    values: list[UnknownValue]
    """Values of masks that no class uses, each to be named or merged."""
    empty: dict[str, int]
    """Layer -> masks with nothing in them."""


def findings_of(revision: Revision) -> list[Finding]:
    """Every kind of problem in the revision, the most frequent first, with a few of its items."""
    counts: dict[str, int] = revision.summary.get("problems", {})
    return [
        Finding(
            kind=kind,
            title=TITLES.get(kind, kind.replace("_", " ").capitalize()),
            remedy=REMEDIES.get(kind, ""),
            count=count,
            items=list(with_problem(revision.items, kind)[:EXAMPLES]),
            fix=FIXES.get(kind),
            values=unknown_values(revision) if kind == "unknown_values" else [],
            empty=empty_layers(revision) if kind == "empty_mask" else {},
        )
        for kind, count in sorted(counts.items(), key=lambda pair: -pair[1])
    ]


def without_pixel_size(revision: Revision) -> int:
    """How many images of the revision have no pixel size."""
    return int(revision.summary.get("pixel_sizes", {}).get("", 0))


def masks_of(revision: Revision) -> list[dict[str, Any]]:
    """Every mask layer with its classes and how many images have it."""
    return [
        {"layer": layer, "count": count, "classes": revision.dataset.classes.get(layer, {})}
        for layer, count in revision.summary.get("masks", {}).items()
    ]
