"""The neighbours of an item: the slices of its stack, and the images before and after it in the order of the grid."""

from __future__ import annotations

from django.http import Http404

from webapp.datasets.models import Item, Revision

SLICES = 10_000
"""A stack of more slices has no slider: one pixel of it would be a hundred slices."""


def revision_of(item: Item, number: str) -> Revision:
    """The revision that the address names, else the newest in which `item` is. Raises Http404."""
    revisions = item.dataset.revisions.filter(number__gte=item.added_in)
    if number.isdecimal() and len(number) < 9:
        revisions = revisions.filter(number=int(number))
    elif item.removed_in is not None:
        revisions = revisions.filter(number__lt=item.removed_in)
    revision = revisions.first()
    if revision is None:
        raise Http404
    return revision


def slices_beside(item: Item, revision: Revision) -> dict[str, int | None]:
    """Ids of the slices `before` and `after` the item in its stack."""
    if not item.group:
        return {"before": None, "after": None}
    stack = revision.items.filter(group=item.group).values_list("pk", flat=True)
    return {
        "before": stack.filter(index__lt=item.index).order_by("-index").first(),
        "after": stack.filter(index__gt=item.index).order_by("index").first(),
    }


def stack_slices(item: Item, revision: Revision) -> list[int]:
    """Ids of all slices in their order; none where it is no stack, or too long a one."""
    if not item.group:
        return []
    slices = revision.items.filter(group=item.group).order_by("index", "position", "id")
    ids = list(slices.values_list("pk", flat=True)[: SLICES + 1])
    return ids if 1 < len(ids) <= SLICES else []
