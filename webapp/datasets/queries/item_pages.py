"""The grid of a revision: filters from the address, and pages by (position, id).

As quick at half a million items as at a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import urlencode

from django.db.models import BooleanField, Count, Q, QuerySet
from django.db.models.expressions import RawSQL

from webapp.datasets.models import NAME_WORDS, Item, Revision, Split

PAGE = 60
COUNTED = 10_000
"""Filtered items are counted up to here; past it the page says "more than"."""
COUNTED_BY_NAME = 1000
"""The same of a search by name, in which each item has to be looked at."""
CHOICES = 200
"""Labels and groups that a filter offers; more of them are named in the address only."""
NO_SPLIT = "none"
NO_LABEL = "(none)"
BRANCHES = 64
"""Labels times splits that one page asks for one by one; more of them are looked through in order."""
WORD = re.compile(r"[a-z\x80-\U0010ffff]+|[0-9]+")
"""What a name, and what is searched in it, is cut into: letters together, digits together. See `NAME_WORDS`."""
_KEY = re.compile(r"(-?[0-9]{1,18})_([0-9]{1,18})")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What the address asks for; empty is no filter.

    `mask` is `paired`, `unpaired` or a layer's name, `size` (of pixels) `known` or `unknown`. An item has one of the
    labels of `label`. Each word of `name`, in this order, begins a part of the item's name, or is its number: "sli 12"
    finds slice_0012.png and slice_120.png.
    """

    split: str = ""
    mask: str = ""
    label: tuple[str, ...] = ()
    group: str = ""
    problem: str = ""
    size: str = ""
    name: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Sequence[object]]) -> Filters:
        """From lists of values, as `QueryDict.lists` has them; of what can be chosen once, the last one counts."""
        values = {name: [str(value) for value in given.get(name, ()) if value] for name in cls.names()}
        single = {name: found[-1] for name, found in values.items() if found and name != "label"}
        return cls(**single, label=tuple(sorted(set(values["label"]))))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(cls.__dataclass_fields__)

    @property
    def chosen(self) -> dict[str, Any]:
        return {name: value for name in self.names() if (value := getattr(self, name))}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """As fields of a form: a name may come several times."""
        several = ((name, [value] if isinstance(value, str) else value) for name, value in self.chosen.items())
        return [(name, value) for name, values in several for value in values]

    @property
    def labels(self) -> list[str]:
        return ["" if label == NO_LABEL else label for label in self.label]

    def apply(self, items: QuerySet[Item]) -> QuerySet[Item]:
        if self.split:
            items = items.filter(split=self.splits[0])
        if self.label:
            items = items.filter(label__in=self.labels)
        return self.apply_rest(items)

    @property
    def splits(self) -> list[str]:
        """The sides on which a match may stand."""
        return [Split.NONE if self.split == NO_SPLIT else self.split] if self.split else [*Split.values]

    def apply_rest(self, items: QuerySet[Item]) -> QuerySet[Item]:
        """All filters but those of split and label, which an index answers together."""
        # Beside the condition itself stands the one of the index that holds few rows: PostgreSQL proves no more.
        if self.mask == "unpaired":
            items = items.filter(masks={})
        elif self.mask:
            items = items.exclude(masks={})
            if self.mask != "paired":
                items = items.filter(masks__has_key=self.mask)
        if self.group:
            items = items.filter(group=self.group)
        if self.problem:
            items = items.exclude(problems=[]).filter(problems__contains=[{"kind": self.problem}])
        if self.size in ("known", "unknown"):
            items = items.filter(pixel_size_nm__isnull=self.size == "unknown")
        if words := WORD.findall(self.name.lower()):
            items = items.annotate(found=_named(words)).filter(found=True)
            if len(words) > 1:
                items = items.filter(name__iregex=in_order(words))
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


def page_of(revision: Revision, filters: Filters, *, given: Mapping[str, str], keep: Mapping[str, Any]) -> Page:
    """The page that `given` asks for: `after` or `before` = "<position>_<id>", `at` = number of its first item.

    `keep` is written into the addresses of the pages beside it.
    """
    total, more = count(revision, filters)
    after, before = key_of(given.get("after", "")), key_of(given.get("before", ""))
    if before:
        rows = items_beyond(revision, filters, before, back=True, number=PAGE + 1)
        shown = rows[:PAGE][::-1]
        has_before, has_after = len(rows) > PAGE, True
    else:
        rows = items_beyond(revision, filters, after, number=PAGE + 1)
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


def items_beyond(
    revision: Revision, filters: Filters, key: tuple[int, int] | None, *, number: int, back: bool = False
) -> list[Item]:
    """The next items that match after `key` = (position, id), or before it, in the order of going.

    A label that all stands at the end of half a million is found by its index, label by label and side by side.
    """
    if _none(revision, filters):
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


def _none(revision: Revision, filters: Filters) -> bool:
    """Whether the summary knows that nothing matches; to find none among the items, all would be looked at."""
    known = counts(revision)
    splits, labels = known["split"], known["label"]
    return (
        (bool(filters.split) and bool(splits) and not splits.get(filters.split))
        or (bool(filters.label) and bool(labels) and not any(labels.get(label) for label in filters.label))
        or any(known[name].get(value) == 0 for name in ("mask", "problem", "size") if (value := getattr(filters, name)))
    )


def _named(words: Sequence[str]) -> RawSQL:
    """Whether each word begins a part of the name, or is a number in it. The expression of `item_name_words`."""
    query = " & ".join(f"('{word}':* | '={_value(word)}')" if word.isdecimal() else f"'{word}':*" for word in words)
    return RawSQL(f"{NAME_WORDS} @@ %s::tsquery", [query], output_field=BooleanField())  # noqa: S611


def in_order(words: Sequence[str]) -> str:
    """A regular expression of PostgreSQL's that a name meets where its words come in this order."""
    parts = [
        f"(?<![0-9])({word}|0*{_value(word)}(?![0-9]))" if word.isdecimal() else f"(?<![a-z\x80-\U0010ffff]){word}"
        for word in words
    ]
    return ".*".join(parts)


def _value(digits: str) -> str:
    """ "12" of "0012" """
    return digits.lstrip("0") or "0"


def halves(name: str, *, end: int = 12) -> tuple[str, str]:
    """The file's name in two, so that a narrow cell can leave out its middle: the end tells slices apart."""
    short = name.rsplit("/", 1)[-1]
    return short[:-end], short[-end:]


def count(revision: Revision, filters: Filters) -> tuple[int, bool]:
    """How many items match, and whether there are more than that. One filter alone is answered by the summary."""
    chosen = filters.chosen
    if not chosen:
        return revision.items_count, False
    known = _known(revision, filters)
    if known is not None:
        return known, False
    most = COUNTED_BY_NAME if filters.name else COUNTED
    found = filters.apply(revision.items)[: most + 1].count()
    return min(found, most), found > most


def _known(revision: Revision, filters: Filters) -> int | None:
    """How many match, where the summary knows it: one filter of any kind, or labels with a side or with masks."""
    chosen = filters.chosen
    known = counts(revision)
    if set(chosen) == {"label"} and known["label"]:
        return sum(known["label"].get(label, 0) for label in filters.label)
    if set(chosen) == {"label", "split"} and "label_splits" in revision.summary:
        sides: dict[str, dict[str, int]] = revision.summary["label_splits"]
        return sum(sides.get(label, {}).get(filters.splits[0], 0) for label in filters.labels)
    if set(chosen) == {"label", "mask"} and "label_masks" in revision.summary:
        masks: dict[str, dict[str, int]] = revision.summary["label_masks"]
        layer = "" if filters.mask in ("paired", "unpaired") else filters.mask
        held = sum(masks.get(label, {}).get(layer, 0) for label in filters.labels)
        return (
            sum(known["label"].get(label, 0) for label in filters.label) - held if filters.mask == "unpaired" else held
        )
    if len(chosen) == 1 and not filters.label:
        [(name, value)] = chosen.items()
        return known.get(name, {}).get(value)
    return 0 if _none(revision, filters) else None


def counts(revision: Revision) -> dict[str, dict[str, int]]:
    """Filter -> value -> items, from the revision's summary, without touching the items."""
    summary: dict[str, Any] = revision.summary
    splits = {(split or NO_SPLIT): number for split, number in summary.get("splits", {}).items()}
    labels = {(label or NO_LABEL): number for label, number in summary.get("labels", {}).items()}
    paired = summary.get("with_mask", 0)
    unsized = summary.get("pixel_sizes", {}).get("", 0)
    return {
        "split": splits if set(splits) != {NO_SPLIT} else {},
        "mask": {"paired": paired, "unpaired": revision.items_count - paired, **summary.get("masks", {})},
        "label": labels if set(labels) != {NO_LABEL} else {},
        "problem": dict(summary.get("problems", {})),
        "size": {"known": revision.items_count - unsized, "unknown": unsized} if "pixel_sizes" in summary else {},
    }


def labels_offered(revision: Revision, filters: Filters) -> list[tuple[str, int]]:
    """The labels to choose from with their counts: those chosen, and the most frequent ones, by name."""
    known = counts(revision)["label"]
    often = sorted(known, key=lambda label: (label not in filters.label, -known[label]))[:CHOICES]
    return [(label, known[label]) for label in sorted(often)]


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


def neighbours(item: Item, revision: Revision, filters: Filters) -> tuple[int | None, int | None]:
    """Ids of the items before and after `item` among those that match, in the dataset's order."""
    key = (item.position, item.pk)
    before = items_beyond(revision, filters, key, number=1, back=True)
    after = items_beyond(revision, filters, key, number=1)
    return before[0].pk if before else None, after[0].pk if after else None


def number_of(item: Item, items: QuerySet[Item]) -> int | None:
    """`item` is the how-many-eth among `items`; None where counting would take long."""
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
