"""What one revision changed of the one before: names added, left out, and changed, with what changed of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import QuerySet

from webapp.datasets.models import Item, Revision

SHOWN = 200
"""So many names of each kind are listed."""
_COMPARED = {
    "image": "image",
    "page": "image",
    "masks": "masks",
    "label": "label",
    "group": "stack",
    "index": "place in the stack",
    "split": "split",
    "pixel_size_nm": "pixel size",
    "low": "window",
    "high": "window",
}
"""Column -> what a person calls it."""


@dataclass(frozen=True)
class Part:
    title: str
    count: int
    rows: list[tuple[str, str]]
    """Name of an image, and what changed of it."""

    @property
    def more(self) -> int:
        return self.count - len(self.rows)


@dataclass(frozen=True)
class Difference:
    sentence: str
    parts: list[Part]


def difference_of(revision: Revision) -> Difference:
    """Compares `revision` with the one before it. Touches only the rows that changed between the two."""
    number = revision.number
    rows = Item.objects.filter(dataset=revision.dataset_id)
    gone = _by_name(rows.filter(removed_in=number))
    come = _by_name(rows.filter(added_in=number))
    changed = {name: _changes(gone[name], come[name]) for name in come if name in gone}
    kinds = [
        ("Added", [(name, "") for name in come if name not in gone]),
        ("Left out", [(name, "") for name in gone if name not in come]),
        ("Changed", [(name, words) for name, words in changed.items() if words]),
    ]
    parts = [Part(title, len(found), found[:SHOWN]) for title, found in kinds if found]
    words = ", ".join(f"{intcomma(part.count)} {part.title.lower()}" for part in parts)
    return Difference(f"{words}." if words else "No image: only names of classes, or nothing that shows.", parts)


def _by_name(rows: QuerySet[Item]) -> dict[str, dict[str, Any]]:
    columns = ("name", *_COMPARED)
    found = rows.order_by("position", "id").values(*columns)
    return {row["name"]: row for row in found.iterator(chunk_size=5000)}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> str:
    """ "split: train to test", "masks" - short enough for a list."""
    said: dict[str, str] = {}
    for column, word in _COMPARED.items():
        old, new = before[column], after[column]
        if old == new or word in said:
            continue
        plain = column not in ("image", "page", "masks", "low", "high")
        said[word] = f"{word}: {_value(old)} to {_value(new)}" if plain else word
    return ", ".join(said.values())


def _value(value: Any) -> str:
    return "none" if value in ("", None) else f"{value:g}" if isinstance(value, float) else str(value)
