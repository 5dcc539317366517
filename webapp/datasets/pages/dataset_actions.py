"""The forms with which people change a dataset. What they change, and how, is in `edits.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Item, Revision
from webapp.datasets.pages.forms import number_of, run_edit
from webapp.datasets.queries.filters import NO_SPLIT, Filters
from webapp.datasets.revisions import dataset_edits, draft, item_edits, subsets, zip_export
from webapp.datasets.revisions.draft import Selection
from webapp.datasets.revisions.split_plan import SHARES, SplitRequest
from webapp.projects.access import get_editable, get_visible, signed_in
from webapp.streaming import csv_parts, streamed

Change = Callable[..., Revision]


def _label(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return item_edits.items_label, {"label": post.get("label", "")}


def _split(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    side = post.get("split", "")
    return item_edits.items_split, {"split": "" if side == NO_SPLIT else side or "?"}


def _measure(post: QueryDict) -> tuple[Change, dict[str, Any]]:
    return item_edits.items_measure, {"pixel_size_nm": _size(post.get("pixel_size", ""))}


CHANGES: dict[str, Callable[[QueryDict], tuple[Change, dict[str, Any]]]] = {
    "remove": lambda _: (item_edits.items_remove, {}),
    "invert": lambda _: (item_edits.items_invert, {}),
    "label": _label,
    "split": _split,
    "measure": _measure,
}
"""What the buttons above the grid do."""


@require_POST
def edit(request: HttpRequest, dataset_id: int) -> HttpResponse:
    """Changes the chosen items: those whose boxes are ticked, or all that the page's filters match."""
    user = signed_in(request)
    dataset = get_editable(Dataset.objects.select_related("project"), user, pk=dataset_id)
    post = request.POST

    def made() -> Revision:
        if post.get("do", "") not in CHANGES:
            raise EditRefused("Choose what to do with the images.")
        change, values = CHANGES[post["do"]](post)
        return change(dataset, selection=_selection(post), base=number_of(post, "base"), user=user, **values)

    run_edit(request, made)
    return _back(dataset, post)


@require_POST
def download_csv(request: HttpRequest, dataset_id: int) -> StreamingHttpResponse:
    """The chosen items as CSV: what a colleague, or a script, needs to know of them."""
    dataset = get_visible(Dataset.objects.all(), signed_in(request), pk=dataset_id)
    newest = dataset.revisions.first()
    found = _selection(request.POST).of(newest.items) if newest else Item.objects.none()
    rows = found.order_by("position", "id").values_list(*_LISTED)
    parts = csv_parts(chain([_LISTED], rows.iterator(chunk_size=2000)))
    return streamed(request, parts, filename=f"{dataset.name}.csv", media_type="text/csv; charset=utf-8")


@require_safe
def export(request: HttpRequest, revision_id: int) -> StreamingHttpResponse:
    """The revision as a zip that comes back identical."""
    revisions = Revision.objects.select_related("dataset")
    return zip_export.answer(
        request, get_visible(revisions, signed_in(request), project="dataset__project", pk=revision_id)
    )


@require_POST
def split(request: HttpRequest, dataset_id: int) -> HttpResponse:
    """Splits the whole dataset anew."""
    user = signed_in(request)
    dataset = get_editable(Dataset.objects.select_related("project"), user, pk=dataset_id)
    post = request.POST
    asked, base = split_request(post), number_of(post, "base")
    run_edit(request, lambda: dataset_edits.dataset_split(dataset, **asdict(asked), base=base, user=user)[0])
    return redirect(f"{reverse('dataset', args=[dataset.pk])}?tab=splits")


@require_POST
def kind(request: HttpRequest, dataset_id: int) -> HttpResponse:
    """Says that the dataset holds photographs, or micrographs."""
    user = signed_in(request)
    dataset = get_editable(Dataset.objects.select_related("project"), user, pk=dataset_id)
    post = request.POST
    wanted, base = post.get("kind", ""), number_of(post, "base")
    run_edit(request, lambda: dataset_edits.dataset_set_content(dataset, kind=wanted, base=base, user=user))
    return redirect(f"{reverse('dataset', args=[dataset.pk])}?tab=doctor")


@require_POST
def name_classes(request: HttpRequest, dataset_id: int) -> HttpResponse:
    """Names and colours the classes of one mask layer."""
    user = signed_in(request)
    dataset = get_editable(Dataset.objects.select_related("project"), user, pk=dataset_id)
    post = request.POST
    given = {
        value: {"name": post.get(f"name-{value}", ""), "colour": post.get(f"colour-{value}", "")}
        for value in post.getlist("value")
    }
    layer, base = post.get("layer", ""), number_of(post, "base")
    run_edit(request, lambda: dataset_edits.classes_name(dataset, layer=layer, classes=given, base=base, user=user))
    return redirect(f"{reverse('dataset', args=[dataset.pk])}?tab=doctor#masks")


@require_POST
def restore(request: HttpRequest, revision_id: int) -> HttpResponse:
    """Brings an earlier revision back as a new one."""
    user = signed_in(request)
    revision = get_editable(
        Revision.objects.select_related("dataset__project"), user, project="dataset__project", pk=revision_id
    )
    base = number_of(request.POST, "base")
    run_edit(request, lambda: dataset_edits.revision_restore(revision, base=base, user=user))
    return redirect(f"{reverse('dataset', args=[revision.dataset_id])}?tab=history")


@require_POST
def subset(request: HttpRequest, revision_id: int) -> HttpResponse:
    """A new dataset of what the page's filters match, or of a sample of it."""
    user = signed_in(request)
    revision = get_editable(
        Revision.objects.select_related("dataset__project"), user, project="dataset__project", pk=revision_id
    )
    post = request.POST
    try:
        made = subsets.subset_create(
            revision,
            project=revision.dataset.project,
            name=post.get("name", ""),
            filters=_filters(post),
            sample=number_of(post, "sample") if post.get("sample", "").strip() else None,
            seed=number_of(post, "seed"),
            stratified=post.get("stratified") == "1",
            user=user,
        )
    except EditRefused as refused:
        messages.error(request, str(refused))
        return _back(revision.dataset, post)
    messages.success(request, f"The dataset {made.name} is made. It takes no space: its files are those it came from.")
    return redirect("dataset", made.pk)


_LISTED = ("name", "split", "label", "group", "index", "width", "height", "dtype", "pixel_size_nm", "image", "page")


def _selection(post: QueryDict) -> Selection:
    if post.get("all") == "1":
        return Selection(filters=_filters(post))
    chosen = [int(value) for value in post.getlist("item") if value.isdecimal() and len(value) < 19]
    if len(chosen) > draft.MOST_CHOSEN:
        raise EditRefused(f"More than {draft.MOST_CHOSEN:,} images were named one by one. Choose them by a filter.")
    return Selection(ids=chosen)


def _filters(post: QueryDict) -> Filters:
    return Filters.of({name: post.getlist(f"filter-{name}") for name in Filters.names()})


def _back(dataset: Dataset, post: QueryDict) -> HttpResponse:
    """To the page that the person was on."""
    if post.get("tab") == "doctor":
        return redirect(f"{reverse('dataset', args=[dataset.pk])}?tab=doctor")
    chosen = _filters(post).chosen
    return redirect(f"{reverse('dataset', args=[dataset.pk])}{'?' + urlencode(chosen, doseq=True) if chosen else ''}")


def split_request(given: QueryDict) -> SplitRequest:
    """What the form of the page of splits asks for, or its address."""
    shares = {name: (_size(given.get(name, "")) or 0.0) / 100 for name in ("validation", "test")}
    return SplitRequest(rule=given.get("rule", "") or SHARES, seed=number_of(given, "seed"), **shares)


def _size(text: str) -> float | None:
    """A number as a person writes it, with a point or a comma; None where the field is empty, -1 where it is none."""
    text = text.strip().replace(",", ".")
    try:
        return float(text) if text else None
    except ValueError:
        return -1.0
