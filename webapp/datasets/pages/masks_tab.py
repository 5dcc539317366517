"""The forms of the doctor and of the page of masks. What they change, and how, is in `masks.py` and `edits.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Revision
from webapp.datasets.pages import doctor_tab
from webapp.datasets.pages.forms import number_of, run_edit
from webapp.datasets.queries import item_pages, mask_counts
from webapp.datasets.queries.filters import Filters
from webapp.datasets.queries.unpaired_masks import PAGE as WAITING_PAGE
from webapp.datasets.queries.unpaired_masks import waiting_one, waiting_page
from webapp.datasets.revisions import mask_edits, near_duplicates
from webapp.datasets.revisions.draft import Selection
from webapp.projects.access import get_editable, signed_in

Change = Callable[..., Revision]


def _detach(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return mask_edits.masks_detach, {"selection": Selection(ids=[number_of(post, "item")])}


def _name_value(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return mask_edits.value_name, {"value": number_of(post, "value"), "name": post.get("name", "")}


def _merge_value(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return mask_edits.value_merge, {"value": number_of(post, "value"), "into": number_of(post, "into", none=256)}


def _attach(dataset: Dataset, post: QueryDict) -> tuple[Change, dict[str, Any]]:
    newest = dataset.revisions.first()
    found = waiting_one(newest, post.get("waiting", "")) if newest else None
    if found is None:
        raise EditRefused("This mask is no longer unpaired. Reload the page and try again.")
    size = (found.width, found.height)
    return mask_edits.mask_attach, {"item_id": number_of(post, "item"), "mask": found.mask, "size": size}


CHANGES: dict[str, Callable[[QueryDict], tuple[Change, dict[str, Any]]]] = {
    "detach": _detach,
    "detach-empty": lambda _: (mask_edits.masks_drop_empty, {}),
    "accept-empty": lambda _: (mask_edits.masks_accept_empty, {}),
    "name-value": _name_value,
    "merge-value": _merge_value,
    "rename": lambda post: (mask_edits.layer_rename, {"to": post.get("to", "")}),
}
"""What the buttons beside masks do, each with those of one layer."""

TWINS: dict[str, Change] = {
    "join-twins": near_duplicates.near_duplicates_align,
    "remove-twins": near_duplicates.near_duplicates_remove,
}
"""What the buttons below look-alikes on two sides do."""


@require_POST
def mask_action(request: HttpRequest, dataset_id: int) -> HttpResponse:
    """Changes masks of one layer, and goes back to the tab that the person was on."""
    user = signed_in(request)
    dataset = get_editable(Dataset.objects.select_related("project"), user, pk=dataset_id)
    post = request.POST

    def made() -> Revision:
        do, base = post.get("do", ""), number_of(post, "base")
        if do in TWINS:
            return TWINS[do](dataset, base=base, user=user)
        if do != "attach" and do not in CHANGES:
            raise EditRefused("Choose what to do with the masks.")
        change, values = _attach(dataset, post) if do == "attach" else CHANGES[do](post)
        return change(dataset, layer=post.get("layer", ""), base=base, user=user, **values)

    run_edit(request, made)
    tab = "masks" if post.get("tab") == "masks" else "doctor"
    return redirect(f"{reverse('dataset', args=[dataset.pk])}?tab={tab}")


PAGE = 30
"""Pairs, and images to choose from, that a page shows."""


def page_of_masks(revision: Revision, given: Mapping[str, str]) -> dict[str, Any]:
    """What the tab of masks shows: layers with their rules, a page of pairs, and what waits."""
    layers = revision.summary.get("masks", {})
    rules = mask_counts.rules_of(revision)
    layer = given.get("layer", "") if given.get("layer") in layers else next(iter(layers), "")
    after = item_pages.key_of(given.get("after", ""))
    rows = item_pages.next_items(revision, Filters(mask=layer), after, number=PAGE + 1) if layer else []
    chosen = waiting_one(revision, given["waiting"]) if "waiting" in given else None
    name = given.get("name", "")
    return {
        "layers": [
            (each, count, [(doctor_tab.RULES.get(rule, rule), n) for rule, n in rules.get(each, {}).items()])
            for each, count in layers.items()
        ],
        "layer": layer,
        "pairs": [
            (item, item.masks[layer], doctor_tab.RULES.get(item.masks[layer]["rule"], "")) for item in rows[:PAGE]
        ],
        "next": f"{rows[PAGE - 1].position}_{rows[PAGE - 1].pk}" if len(rows) > PAGE else "",
        "bare": revision.summary.get("problems", {}).get("unpaired", 0),
        "chosen": chosen,
        "search": name,
        "candidates": mask_counts.candidates(revision, chosen, name=name, number=PAGE) if chosen else [],
        **_page_of_waiting(revision, given),
    }


def _page_of_waiting(revision: Revision, given: Mapping[str, str]) -> dict[str, Any]:
    seek, start = given.get("seek", ""), given.get("at", "")
    at = int(start) if start.isdecimal() and len(start) < 10 else 0
    rows, count = waiting_page(revision, name=seek, at=at)
    kept = {"tab": "masks"} | {key: given[key] for key in ("revision", "seek") if given.get(key)}

    def page(first: int) -> str:
        return f"{urlencode(kept | {'at': first})}#waiting"

    return {
        "waiting": rows,
        "waiting_count": count,
        "waiting_query": urlencode(kept | {"at": at}),
        "waiting_pages": {
            "newer": page(max(0, at - WAITING_PAGE)) if at and rows else "",
            "older": page(at + WAITING_PAGE) if at + WAITING_PAGE < count else "",
        },
        "seek": seek,
    }
