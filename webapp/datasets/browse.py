"""The grid of a revision: filters from the address, and pages by (position, id).

As quick at half a million items as at a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Q, QuerySet

from webapp.datasets.models import Item, Revision, Split

PAGE = 60
COUNTED = 10_000
"""Filtered items are counted up to here; past it the page says "more than"."""
CHOICES = 200
"""Labels and groups that a filter offers; more of them are named in the address only."""
NO_SPLIT = "none"
_KEY = re.compile(r"(-?[0-9]{1,18})_([0-9]{1,18})")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What the address asks for; an empty string is no filter. `mask` is `paired`, `unpaired` or a layer's name."""

    split: str = ""
    mask: str = ""
    label: str = ""
    group: str = ""
    problem: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Filters:
        return cls(**{name: given.get(name, "") for name in cls.names()})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(cls.__dataclass_fields__)

    @property
    def chosen(self) -> dict[str, str]:
        return {name: value for name in self.names() if (value := getattr(self, name))}

    def without(self, name: str) -> Filters:
        return replace(self, **{name: ""})

    def apply(self, items: QuerySet[Item]) -> QuerySet[Item]:
        if self.split:
            items = items.filter(split=Split.NONE if self.split == NO_SPLIT else self.split)
        if self.mask == "paired":
            items = items.exclude(masks={})
        elif self.mask == "unpaired":
            items = items.filter(masks={})
        elif self.mask:
            items = items.filter(masks__has_key=self.mask)
        if self.label:
            items = items.filter(label=self.label)
        if self.group:
            items = items.filter(group=self.group)
        if self.problem:
            items = items.filter(problems__contains=[{"kind": self.problem}])
        return items


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


def page_of(revision: Revision, filters: Filters, *, given: Mapping[str, str], keep: Mapping[str, str]) -> Page:
    """The page that `given` asks for: `after` or `before` = "<position>_<id>", `at` = number of its first item.

    `keep` is written into the addresses of the pages beside it.
    """
    total, more = count(revision, filters)
    items = filters.apply(revision.items)
    after, before = _key(given.get("after", "")), _key(given.get("before", ""))
    if before:
        rows = list(items.filter(_beyond(before, "lt")).order_by("-position", "-id")[: PAGE + 1])
        shown = rows[:PAGE][::-1]
        has_before, has_after = len(rows) > PAGE, True
    else:
        rows = list((items.filter(_beyond(after, "gt")) if after else items).order_by("position", "id")[: PAGE + 1])
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


def halves(name: str, *, end: int = 12) -> tuple[str, str]:
    """The file's name in two, so that a narrow cell can leave out its middle: the end tells slices apart."""
    short = name.rsplit("/", 1)[-1]
    return short[:-end], short[-end:]


def count(revision: Revision, filters: Filters) -> tuple[int, bool]:
    """How many items match, and whether there are more than that. One filter alone is answered by the summary."""
    chosen = filters.chosen
    if not chosen:
        return revision.items_count, False
    if len(chosen) == 1:
        [(name, value)] = chosen.items()
        known = counts(revision).get(name, {}).get(value)
        if known is not None:
            return known, False
    found = filters.apply(revision.items)[: COUNTED + 1].count()
    return min(found, COUNTED), found > COUNTED


def counts(revision: Revision) -> dict[str, dict[str, int]]:
    """Filter -> value -> items, from the revision's summary, without touching the items."""
    summary: dict[str, Any] = revision.summary
    splits = {(split or NO_SPLIT): number for split, number in summary.get("splits", {}).items()}
    paired = summary.get("with_mask", 0)
    return {
        "split": splits if set(splits) != {NO_SPLIT} else {},
        "mask": {"paired": paired, "unpaired": revision.items_count - paired, **summary.get("masks", {})},
        "label": {label: number for label, number in summary.get("labels", {}).items() if label},
        "problem": dict(summary.get("problems", {})),
    }


def groups_of(revision: Revision) -> list[str]:
    """The groups to choose from; none where there are too many to choose from or to find them quickly."""
    if not 0 < revision.summary.get("groups", 0) <= CHOICES or revision.items_count > COUNTED:
        return []
    return list(revision.items.exclude(group="").order_by("group").values_list("group", flat=True).distinct())


@dataclass(frozen=True)
class Side:
    """One side of a revision's split. `groups` is None where nothing is in a stack, or counting would take long."""

    title: str
    filter: str
    count: int
    share: str
    groups: int | None
    use: str


_SIDES = (
    ("train", "Train", "Networks learn from these."),
    ("validation", "Validation", "The best epoch and the threshold are chosen by these."),
    ("test", "Test", "Scores are measured on these, once, at the end."),
    (NO_SPLIT, "No split", "Used for pretraining; split by itself where a job needs it."),
)


def sides_of(revision: Revision) -> list[Side]:
    """How many images, and stacks, stand on each side."""
    counted: dict[str, int] = revision.summary.get("splits", {})
    stacks: dict[str, int] = {}
    if revision.summary.get("groups") and revision.items_count <= COUNTED:
        grouped = revision.items.exclude(group="").order_by().values("split")
        stacks = dict(grouped.annotate(n=Count("group", distinct=True)).values_list("split", "n"))
    rows = []
    for value, title, use in _SIDES:
        side = "" if value == NO_SPLIT else value
        number = counted.get(side, 0)
        share = f"{100 * number / revision.items_count:.0f}" if revision.items_count else "0"
        rows.append(Side(title, value, number, share, stacks.get(side, 0) if stacks else None, use))
    return rows


@dataclass(frozen=True)
class Leak:
    """Images on two sides of the split that show nearly the same, and some of them as pairs."""

    sentence: str
    count: int
    pairs: list[tuple[Item, Item]]


def leaks_of(revision: Revision) -> list[Leak]:
    found = revision.summary.get("leaks", [])
    ids = {pk for leak in found for pair in leak["examples"] for pk in pair}
    items = Item.objects.in_bulk(ids)
    return [
        Leak(
            leak["sentence"],
            leak["count"],
            [(items[a], items[b]) for a, b in leak["examples"] if a in items and b in items],
        )
        for leak in found
    ]


def problems_in(revision: Revision) -> int:
    """How many things the doctor has found."""
    summary = revision.summary
    return sum(summary.get("problems", {}).values()) + sum(leak["count"] for leak in summary.get("leaks", []))


def neighbours(item: Item, items: QuerySet[Item]) -> tuple[int | None, int | None]:
    """Ids of the items before and after `item` among `items`, in the dataset's order."""
    key = (item.position, item.pk)
    before = items.filter(_beyond(key, "lt")).order_by("-position", "-id").values_list("pk", flat=True).first()
    after = items.filter(_beyond(key, "gt")).order_by("position", "id").values_list("pk", flat=True).first()
    return before, after


def number_of(item: Item, items: QuerySet[Item]) -> int | None:
    """`item` is the how-many-eth among `items`; None where counting would take long."""
    before = items.filter(_beyond((item.position, item.pk), "lt"))[: COUNTED + 1].count()
    return before + 1 if before <= COUNTED else None


def _beyond(key: tuple[int, int], side: str) -> Q:
    position, pk = key
    # The first term alone lets the index on (dataset, position, id) find the place.
    within = Q(**{f"position__{side}e": position})
    return within & (Q(**{f"position__{side}": position}) | Q(**{f"id__{side}": pk}))


def _key(given: str) -> tuple[int, int] | None:
    found = _KEY.fullmatch(given)
    return (int(found[1]), int(found[2])) if found else None


def _query(keep: Mapping[str, str], *, at: int | None, **edge: Item) -> str:
    [(name, item)] = edge.items()
    query = {**keep, name: f"{item.position}_{item.pk}"}
    return urlencode({**query, "at": str(at)} if at else query)
