"""Images that look the same on two sides of the split, brought to one side or left out."""

from __future__ import annotations

from collections import Counter, defaultdict

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db import transaction

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Item, Revision, Split
from webapp.datasets.revisions.draft import RevisionDraft, Selection
from webapp.datasets.revisions.item_edits import items_remove
from webapp.datasets.revisions.leakage import LeakSearch
from webapp.projects.models import User

NONE_LEFT = "No two images that look the same are in different parts any more, so nothing was changed."


@transaction.atomic
def near_duplicates_remove(dataset: Dataset, *, base: int, user: User) -> Revision:
    """Leaves one of each pair out: the one in training, which has most images; else the second."""
    revising = RevisionDraft(dataset.pk, base=base)
    items = _items(revising)
    gone: set[int] = set()
    for one, two in _pairs(items):
        if one not in gone and two not in gone:
            gone.add(one if items[one].split == Split.TRAIN else two)
    if not gone:
        raise EditRefused(NONE_LEFT)
    return items_remove(dataset, selection=Selection(ids=sorted(gone)), base=base, user=user)


@transaction.atomic
def near_duplicates_align(dataset: Dataset, *, base: int, user: User) -> Revision:
    """Moves images that look the same to the part where most of them are; a stack in one part moves whole."""
    revising = RevisionDraft(dataset.pk, base=base)
    items = _items(revising)
    stacks: dict[str, list[int]] = defaultdict(list)
    for pk, item in items.items():
        if item.group:
            stacks[item.group].append(pk)
    whole = {group for group, ids in stacks.items() if len({items[pk].split for pk in ids}) == 1}
    leader: dict[str | int, str | int] = {}

    def lead(of: str | int) -> str | int:
        while (up := leader.setdefault(of, of)) != of:
            of = up
        return of

    def unit(pk: int) -> str | int:
        return items[pk].group if items[pk].group in whole else pk

    for one, two in _pairs(items):
        leader[lead(unit(two))] = lead(unit(one))
    members: dict[str | int, list[int]] = defaultdict(list)
    for each in list(leader):
        members[lead(each)] += stacks[each] if isinstance(each, str) else [each]
    wanted: dict[str, list[int]] = defaultdict(list)
    for ids in members.values():
        [(side, _)] = Counter(items[pk].split for pk in ids).most_common(1)
        wanted[side] += [pk for pk in ids if items[pk].split != side]
    moved = sum(len(ids) for ids in wanted.values())
    if not moved:
        raise EditRefused(NONE_LEFT)
    for side, ids in wanted.items():
        revising.replace(ids, split=side)
    word = "image" if moved == 1 else "images"
    return revising.save(f"{intcomma(moved)} {word} moved to the part of those that look the same.", user=user)


def _items(revising: RevisionDraft) -> dict[int, Item]:
    rows = revising.items.order_by("position", "id").only("name", "split", "group", "index", "facts")
    return {item.pk: item for item in rows}


def _pairs(items: dict[int, Item]) -> list[tuple[int, int]]:
    search = LeakSearch()
    for item in items.values():
        search.add(item)
    return search.near_duplicates()
