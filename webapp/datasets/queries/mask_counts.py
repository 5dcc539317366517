"""Counts for the doctor and the masks tab: values no class uses, empty masks, masks paired by each rule."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from webapp.datasets.models import Item, Revision
from webapp.datasets.queries.filters import Filters, with_problem
from webapp.datasets.queries.unpaired_masks import UnpairedMask


@dataclass(frozen=True)
class UnknownValue:
    """A value of a layer's masks that no class uses, and the classes that it may be counted as."""

    layer: str
    value: int
    count: int
    classes: dict[str, dict[str, str]]


def unknown_values(revision: Revision) -> list[UnknownValue]:
    """Values that no class uses, the most frequent first."""
    if not revision.summary.get("problems", {}).get("unknown_values"):
        return []
    rows = _of_masks(
        with_problem(revision.items, "unknown_values"),
        "m.key, v.key",
        joined="CROSS JOIN LATERAL jsonb_object_keys(m.value -> 'values') AS v(key)",
    )
    classes = revision.dataset.classes
    found = [
        UnknownValue(layer, int(value), count, classes.get(layer, {}))
        for layer, value, count in rows
        if value != "0" and value not in classes.get(layer, {})
    ]
    return sorted(found, key=lambda each: (-each.count, each.layer, each.value))


def empty_layers(revision: Revision) -> dict[str, int]:
    """Layer -> how many of its masks are empty without having been accepted as such."""
    if not revision.summary.get("problems", {}).get("empty_mask"):
        return {}
    empty = "(m.value -> 'values') - '0' = '{}'::jsonb AND NOT jsonb_exists(m.value, 'nothing')"
    rows = _of_masks(with_problem(revision.items, "empty_mask"), "m.key", where=empty)
    return dict(sorted(rows))


def rules_of(revision: Revision) -> dict[str, dict[str, int]]:
    """Layer -> rule -> how many masks it paired, the most frequent first."""
    if "rules" in revision.summary:
        return {
            layer: dict(sorted(rules.items(), key=lambda pair: -pair[1]))
            for layer, rules in revision.summary["rules"].items()
        }
    found: dict[str, dict[str, int]] = defaultdict(dict)  # of a revision that was made before summaries held it
    rows = _of_masks(revision.items.exclude(masks={}), "m.key, coalesce(m.value ->> 'rule', '')")
    for layer, rule, count in sorted(rows, key=lambda row: -row[2]):
        found[layer][rule] = count
    return found


def candidates(revision: Revision, waiting: UnpairedMask, *, name: str, number: int) -> list[Item]:
    """Images of the mask's size whose names have these words, in the dataset's order."""
    items = Filters(name=name).apply(revision.items.filter(width=waiting.width, height=waiting.height))
    return list(items.order_by("position", "id")[:number])


def _of_masks(items: QuerySet[Item], columns: str, *, joined: str = "", where: str = "true") -> list[tuple[Any, ...]]:
    """Counts masks of items by `columns`, in the database: `m.key` is a layer, `m.value` its mask."""
    inner, values = items.order_by().values("masks").query.sql_with_params()
    # The texts are of this module; what a person wrote travels as a parameter.
    query = (
        f"SELECT {columns}, count(*) FROM ({inner}) AS i CROSS JOIN LATERAL jsonb_each(i.masks) AS m {joined} "  # noqa: S608
        f"WHERE {where} GROUP BY {columns}"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()
