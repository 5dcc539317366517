"""The forms of the doctor and of the page of masks. What they change, and how, is in `masks.py` and `edits.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from webapp.datasets import browse, findings, masks, pairs, twins
from webapp.datasets.browse import Filters
from webapp.datasets.edits import EditRefused, Selection
from webapp.datasets.forms import number_of, told
from webapp.datasets.models import Dataset, Revision
from webapp.projects.access import get_editable, signed_in

Change = Callable[..., Revision]


def _detach(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return masks.masks_detach, {"selection": Selection(ids=[number_of(post, "item")])}


def _name_value(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return masks.value_name, {"value": number_of(post, "value"), "name": post.get("name", "")}


def _merge_value(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return masks.value_merge, {"value": number_of(post, "value"), "into": number_of(post, "into", none=256)}


def _attach(dataset: Dataset, post: QueryDict) -> tuple[Change, dict[str, Any]]:
    newest = dataset.revisions.first()
    for each in pairs.waiting_of(newest) if newest else []:
        if each.key == post.get("waiting"):
            size = (each.width, each.height)
            return masks.mask_attach, {"item_id": number_of(post, "item"), "mask": each.mask, "size": size}
    raise EditRefused("This mask waits no more. Look again, then repeat.")


CHANGES: dict[str, Callable[[QueryDict], tuple[Change, dict[str, Any]]]] = {
    "detach": _detach,
    "detach-empty": lambda _: (masks.masks_drop_empty, {}),
    "accept-empty": lambda _: (masks.masks_accept_empty, {}),
    "name-value": _name_value,
    "merge-value": _merge_value,
    "rename": lambda post: (masks.layer_rename, {"to": post.get("to", "")}),
}
"""What the buttons beside masks do, each with those of one layer."""

TWINS: dict[str, Change] = {"join-twins": twins.twins_join, "remove-twins": twins.twins_remove}
"""What the buttons below look-alikes on two sides do."""


@require_POST
def mend(request: HttpRequest, dataset_id: int) -> HttpResponse:
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

    told(request, made)
    tab = "masks" if post.get("tab") == "masks" else "doctor"
    return redirect(f"{reverse('dataset', args=[dataset.pk])}?tab={tab}")


PAGE = 30
"""Pairs, waiting masks and images to choose from that a page shows."""


def page_of_masks(revision: Revision, given: Mapping[str, str]) -> dict[str, Any]:
    """What the tab of masks shows: layers with their rules, a page of pairs, and what waits."""
    layers = revision.summary.get("masks", {})
    rules = pairs.rules_of(revision)
    layer = given.get("layer", "") if given.get("layer") in layers else next(iter(layers), "")
    after, start = browse.key_of(given.get("after", "")), int(at) if (at := given.get("at", "")).isdecimal() else 0
    rows = browse.items_beyond(revision, Filters(mask=layer), after, number=PAGE + 1) if layer else []
    waiting = pairs.waiting_of(revision)
    chosen = next((each for each in waiting if each.key == given.get("waiting")), None)
    name = given.get("name", "")
    return {
        "layers": [
            (each, count, [(findings.RULES.get(rule, rule), n) for rule, n in rules.get(each, {}).items()])
            for each, count in layers.items()
        ],
        "layer": layer,
        "pairs": [(item, item.masks[layer], findings.RULES.get(item.masks[layer]["rule"], "")) for item in rows[:PAGE]],
        "next": f"{rows[PAGE - 1].position}_{rows[PAGE - 1].pk}" if len(rows) > PAGE else "",
        "bare": revision.summary.get("problems", {}).get("unpaired", 0),
        "waiting": waiting[start : start + PAGE],
        "waiting_count": len(waiting),
        "waiting_next": start + PAGE if len(waiting) > start + PAGE else 0,
        "chosen": chosen,
        "search": name,
        "candidates": pairs.candidates(revision, chosen, name=name, number=PAGE) if chosen else [],
    }
