"""The forms of the doctor and of the page of masks. What they change, and how, is in `masks.py` and `edits.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from webapp.datasets import masks
from webapp.datasets.edits import EditRefused, Selection
from webapp.datasets.models import Dataset, Revision
from webapp.projects.access import get_editable, signed_in

Change = Callable[..., Revision]


def number_of(post: QueryDict, name: str, *, none: int = 0) -> int:
    """A whole number that a form sent; `none` where it is none."""
    value = post.get(name, "").strip()
    return int(value) if value.isdecimal() and len(value) < 19 else none


def _detach(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return masks.masks_detach, {"selection": Selection(ids=[number_of(post, "item")])}


def _name_value(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return masks.value_name, {"value": number_of(post, "value"), "name": post.get("name", "")}


def _merge_value(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return masks.value_merge, {"value": number_of(post, "value"), "into": number_of(post, "into", none=256)}


CHANGES: dict[str, Callable[[QueryDict], tuple[Change, dict[str, Any]]]] = {
    "detach": _detach,
    "detach-empty": lambda _: (masks.masks_drop_empty, {}),
    "accept-empty": lambda _: (masks.masks_accept_empty, {}),
    "name-value": _name_value,
    "merge-value": _merge_value,
    "rename": lambda post: (masks.layer_rename, {"to": post.get("to", "")}),
}
"""What the buttons beside masks do, each with those of one layer."""


@require_POST
def mend(request: HttpRequest, dataset_id: int) -> HttpResponse:
    """Changes masks of one layer, and goes back to the tab that the person was on."""
    user = signed_in(request)
    dataset = get_editable(Dataset.objects.select_related("project"), user, pk=dataset_id)
    post = request.POST
    try:
        change, values = CHANGES[post.get("do", "")](post)
        base = number_of(post, "base")
        made = change(dataset, layer=post.get("layer", ""), base=base, user=user, **values)
        messages.success(request, f"{made.change} This is revision {made.number} now.")
    except KeyError:
        messages.error(request, "Choose what to do with the masks.")
    except EditRefused as refused:
        messages.error(request, str(refused))
    tab = "masks" if post.get("tab") == "masks" else "doctor"
    return redirect(f"{reverse('dataset', args=[dataset.pk])}?tab={tab}")
