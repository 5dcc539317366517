"""What stands around an item: the slices of its stack, and the images before and after it in the order of the grid."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from webapp.datasets.models import Item, Revision
from webapp.datasets.queries import item_pages as browse
from webapp.datasets.queries.item_pages import Filters
from webapp.projects.access import get_visible, signed_in

AROUND = 200
"""So many items before and after one are told at a time: a key held for ten seconds goes no further."""
SLICES = 10_000
"""A stack of more slices has no slider: a pixel of it would stand for a hundred."""


@require_safe
def around(request: HttpRequest, item_id: int) -> HttpResponse:
    """Ids: `run`, the items that match the filters from before the item to after it, and `stack`, all its slices.

    `first` and `last` say whether the run begins and ends where the dataset does.
    """
    user = signed_in(request)
    item = get_visible(Item.objects.select_related("dataset"), user, project="dataset__project", pk=item_id)
    revision = revision_of(item, request.GET.get("revision", ""))
    filters = Filters.of(dict(request.GET.lists()))
    key = (item.position, item.pk)
    before = browse.items_beyond(revision, filters, key, number=AROUND, back=True)
    after = browse.items_beyond(revision, filters, key, number=AROUND)
    response = JsonResponse(
        {
            "run": [*(each.pk for each in reversed(before)), item.pk, *(each.pk for each in after)],
            "first": len(before) < AROUND,
            "last": len(after) < AROUND,
            "stack": _stack(item, revision),
        }
    )
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


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


def _stack(item: Item, revision: Revision) -> list[int]:
    """Ids of all slices in their order; none where it is no stack, or too long a one."""
    if not item.group:
        return []
    slices = revision.items.filter(group=item.group).order_by("index", "position", "id")
    ids = list(slices.values_list("pk", flat=True)[: SLICES + 1])
    return ids if 1 < len(ids) <= SLICES else []
