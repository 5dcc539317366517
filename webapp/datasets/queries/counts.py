"""How many items of a revision match, answered from its summary wherever that knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from webapp.datasets.models import Item, Revision
from webapp.datasets.queries.filters import NO_LABEL, NO_SPLIT, Filters

COUNTED = 10_000
"""Filtered items are counted up to here; past it the page says "more than"."""


COUNTED_BY_NAME = 1000
"""The same of a search by name, in which each item has to be looked at."""


CHOICES = 200
"""Labels and groups that a filter offers; more of them are named in the address only."""


def nothing_matches(revision: Revision, filters: Filters) -> bool:
    """Whether the summary knows that nothing matches; to find none among the items, all would be looked at."""
    known = counts(revision)
    splits, labels = known["split"], known["label"]
    return (
        (bool(filters.split) and bool(splits) and not splits.get(filters.split))
        or (bool(filters.label) and bool(labels) and not any(labels.get(label) for label in filters.label))
        or any(known[name].get(value) == 0 for name in ("mask", "problem", "size") if (value := getattr(filters, name)))
    )


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
    return 0 if nothing_matches(revision, filters) else None


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
    (NO_SPLIT, "No split", "Used for pretraining; a job that needs a split makes its own."),
)


def part_counts(revision: Revision) -> list[Side]:
    """How many images, and stacks, are in each split part."""
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


def masked_images(revision: Revision) -> int:
    """How many images of the revision have a mask."""
    return int(revision.summary.get("with_mask", 0))
