"""The grid of a revision: filters from the address, and pages by (position, id).

As quick at half a million items as at a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q, QuerySet

from webapp.datasets.models import Item, Revision
from webapp.datasets.queries.counts import COUNTED, count, nothing_matches
from webapp.datasets.queries.filters import Filters

PAGE = 60


BRANCHES = 64
"""Labels times splits that one page asks for one by one; more of them are looked through in order."""


_KEY = re.compile(r"(-?[0-9]{1,18})_([0-9]{1,18})")


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of the grid. `first` is the number of its first item, None where it was not counted."""

    items: list[Item]
    total: int
    more_than_total: bool
    first: int | None
    newer: str
    """The query of the page before; empty on the first page."""
    older: str
    """The query of the page after; empty on the last page."""

    @property
    def last(self) -> int | None:
        return self.first + len(self.items) - 1 if self.first else None


def page_of(revision: Revision, filters: Filters, *, given: Mapping[str, str], keep: Mapping[str, Any]) -> Page:
    """The page that `given` asks for: `after` or `before` = "<position>_<id>", `at` = number of its first item.

    `keep` is written into the addresses of the pages beside it.
    """
    total, more = count(revision, filters)
    after, before = key_of(given.get("after", "")), key_of(given.get("before", ""))
    if before:
        rows = next_items(revision, filters, before, back=True, number=PAGE + 1)
        shown = rows[:PAGE][::-1]
        has_before, has_after = len(rows) > PAGE, True
    else:
        rows = next_items(revision, filters, after, number=PAGE + 1)
        shown = rows[:PAGE]
        has_before, has_after = bool(after), len(rows) > PAGE
    at = given.get("at", "")
    first = int(at) if at.isdecimal() and len(at) < 10 else None
    if not has_before:
        first = 1
    return Page(
        items=shown,
        total=total,
        more_than_total=more,
        first=first if shown else None,
        newer=_query(keep, before=shown[0], at=first and max(1, first - PAGE)) if shown and has_before else "",
        older=_query(keep, after=shown[-1], at=first and first + len(shown)) if shown and has_after else "",
    )


def next_items(
    revision: Revision, filters: Filters, key: tuple[int, int] | None, *, number: int, back: bool = False
) -> list[Item]:
    """The next items that match after `key` = (position, id), or before it, in the order of going.

    A label whose items are all at the end of half a million is found by its index, per label and split part.
    """
    if nothing_matches(revision, filters):
        return []
    items, order = revision.items, ("-position", "-id") if back else ("position", "id")
    if key:
        items = items.filter(_beyond(key, "lt" if back else "gt"))
    branches = [*product(filters.labels, filters.splits)]
    if not branches or len(branches) > BRANCHES:
        return list(filters.apply(items).order_by(*order)[:number])
    parts = [
        filters.apply_rest(items.filter(label=label, split=split)).order_by(*order).values("position", "id")[:number]
        for label, split in branches
    ]
    # One part needs no union, and Django makes none of it.
    together = parts[0].union(*parts[1:], all=True).order_by(*order)[:number] if len(parts) > 1 else parts[0]
    ids = [row["id"] for row in together]
    found = Item.objects.in_bulk(ids)
    return [found[pk] for pk in ids]


def split_file_name(name: str, *, end: int = 12) -> tuple[str, str]:
    """The file's name in two, so that a narrow cell can leave out its middle: the end tells slices apart."""
    short = name.rsplit("/", 1)[-1]
    return short[:-end], short[-end:]


def neighbours(item: Item, revision: Revision, filters: Filters) -> tuple[int | None, int | None]:
    """Ids of the items before and after `item` among those that match, in the dataset's order."""
    key = (item.position, item.pk)
    before = next_items(revision, filters, key, number=1, back=True)
    after = next_items(revision, filters, key, number=1)
    return before[0].pk if before else None, after[0].pk if after else None


def number_of(item: Item, items: QuerySet[Item]) -> int | None:
    """The 1-based position of `item` among `items`; None where counting would take long."""
    before = items.filter(_beyond((item.position, item.pk), "lt"))[: COUNTED + 1].count()
    return before + 1 if before <= COUNTED else None


def _beyond(key: tuple[int, int], side: str) -> Q:
    position, pk = key
    # The first term alone lets the index on (dataset, position, id) find the place.
    within = Q(**{f"position__{side}e": position})
    return within & (Q(**{f"position__{side}": position}) | Q(**{f"id__{side}": pk}))


def key_of(given: str) -> tuple[int, int] | None:
    found = _KEY.fullmatch(given)
    return (int(found[1]), int(found[2])) if found else None


def _query(keep: Mapping[str, Any], *, at: int | None, **edge: Item) -> str:
    [(name, item)] = edge.items()
    query = {**keep, name: f"{item.position}_{item.pk}"}
    return urlencode({**query, "at": str(at)} if at else query, doseq=True)
