"""The page of one item: the viewer, and the item's neighbours."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from webapp.datasets.models import Item
from webapp.datasets.pages import viewer_layers
from webapp.datasets.pages.forms import pinned_revision
from webapp.datasets.pictures.pyramids import TILE, in_colour, is_large, levels_of
from webapp.datasets.pictures.views import LARGEST
from webapp.datasets.queries import counts, item_pages, stacks
from webapp.datasets.queries.filters import Filters
from webapp.datasets.queries.stacks import revision_of, stack_slices
from webapp.projects.access import get_visible, may_edit, signed_in


@require_safe
def item(request: HttpRequest, item_id: int) -> HttpResponse:
    user = signed_in(request)
    found = get_visible(Item.objects.select_related("dataset__project"), user, project="dataset__project", pk=item_id)
    revision = stacks.revision_of(found, request.GET.get("revision", ""))
    filters = Filters.of(dict(request.GET.lists()))
    kept = {**pinned_revision(request), **filters.chosen}
    items = filters.apply(revision.items)
    before, after = item_pages.neighbours(found, revision, filters)
    slices = stacks.slices_beside(found, revision)
    masks, runs = viewer_layers.masks_of(found), viewer_layers.runs_on(found, user=user)
    context = {
        "project": found.dataset.project,
        "dataset": found.dataset,
        "revision": revision,
        "item": found,
        "before": before,
        "after": after,
        "slices": slices,
        "number": item_pages.number_of(found, items),
        "total": counts.count(revision, filters),
        "kept": urlencode(kept, doseq=True),
        "masks": masks,
        "made": runs,
        "may_edit": may_edit(user, found.dataset.project),
        "newer": _newer(found),
        "reduced": is_large(found) and bool(masks),
        "viewer": {
            **_viewer(found, masks, runs),
            "before": before,
            "after": after,
            "sliceBefore": slices["before"],
            "sliceAfter": slices["after"],
            "stacked": any(slices.values()),
        },
    }
    return render(request, "datasets/item.html", context)


def _newer(item: Item) -> int | None:
    """The row that took the place of `item` in a later revision."""
    if item.removed_in is None:
        return None
    newer = Item.objects.filter(dataset=item.dataset_id, name=item.name, added_in__gte=item.removed_in)
    return newer.order_by("-added_in").values_list("pk", flat=True).first()


def _tiles(item: Item) -> dict[str, Any] | None:
    """Where the tiles of a large image are, how large each is, and how many levels there are."""
    if not is_large(item):
        return None
    address = reverse("item-tile", args=[item.pk, 0, 0, 0]).removesuffix("0/0-0.png")
    return {"address": address, "size": TILE, "levels": levels_of(item.width, item.height)}


def _viewer(item: Item, masks: list[dict[str, Any]], runs: dict[str, Any]) -> dict[str, Any]:
    """What the page's script needs to know."""
    return {
        "id": item.pk,
        "name": item.name,
        "width": item.width,
        "height": item.height,
        "dtype": item.dtype,
        "low": item.low,
        "high": item.high,
        "pixelSize": item.pixel_size_nm,
        "colour": in_colour(item),
        "image": reverse("item-image", args=[item.pk]),
        "longest": LARGEST,
        "tiles": _tiles(item),
        "histogram": reverse("item-histogram", args=[item.pk]),
        "around": reverse("item-around", args=[item.pk]),
        "masks": masks,
        "predictions": runs["prediction"],
        "cams": runs["cam"],
        "colours": runs["colour"],
    }


AROUND = 200
"""At most this many items before and after one are sent at a time: a key held for ten seconds goes no further."""


@require_safe
def around(request: HttpRequest, item_id: int) -> HttpResponse:
    """Ids: `run`, the items that match the filters from before the item to after it, and `stack`, all its slices.

    `first` and `last`: whether the run begins and ends where the dataset does.
    """
    user = signed_in(request)
    item = get_visible(Item.objects.select_related("dataset"), user, project="dataset__project", pk=item_id)
    revision = revision_of(item, request.GET.get("revision", ""))
    filters = Filters.of(dict(request.GET.lists()))
    key = (item.position, item.pk)
    before = item_pages.next_items(revision, filters, key, number=AROUND, back=True)
    after = item_pages.next_items(revision, filters, key, number=AROUND)
    response = JsonResponse(
        {
            "run": [*(each.pk for each in reversed(before)), item.pk, *(each.pk for each in after)],
            "first": len(before) < AROUND,
            "last": len(after) < AROUND,
            "stack": stack_slices(item, revision),
        }
    )
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
