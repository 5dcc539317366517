"""Datasets and their revisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest
from ninja import Router, Schema

from webapp.api.auth import asker
from webapp.datasets.models import Dataset, Item, Revision
from webapp.datasets.queries import counts, item_pages
from webapp.datasets.queries.filters import Filters
from webapp.projects.access import get_visible, visible
from webapp.projects.models import Project

router = Router(tags=["datasets"])


class RevisionOut(Schema):
    id: int
    number: int
    manifest: str
    items_count: int
    summary: dict[str, Any]
    change: str
    created_at: datetime


class DatasetOut(Schema):
    id: int
    name: str
    project_id: int
    revisions: list[RevisionOut]


@router.get("", response=list[DatasetOut])
def list_datasets(request: HttpRequest, project: int | None = None) -> object:
    """All datasets that the asker may see, or those of one project."""
    user = asker(request)
    found = visible(Dataset.objects.prefetch_related("revisions"), user)
    if project is not None:
        found = found.filter(project=get_visible(Project.objects.all(), user, project="", pk=project))
    return found


@router.get("/{dataset_id}", response=DatasetOut)
def get_dataset(request: HttpRequest, dataset_id: int) -> object:
    return get_visible(Dataset.objects.prefetch_related("revisions"), asker(request), pk=dataset_id)


MOST = 1000
"""Items per response."""


class ItemOut(Schema):
    id: int
    name: str
    image: str
    page: int
    width: int
    height: int
    dtype: str
    low: float
    high: float
    masks: dict[str, Any]
    label: str
    group: str
    index: int
    pixel_size_nm: float | None
    split: str
    problems: list[dict[str, Any]]


class ItemsOut(Schema):
    """`after` of the next page is `next`; there is none where that is null. `total` stops
    counting at 10,000, of a search by name at 1,000."""

    revision: int
    total: int
    more_than_total: bool
    items: list[ItemOut]
    next: str | None


@router.get("/{dataset_id}/items", response=ItemsOut)
def list_items(
    request: HttpRequest, dataset_id: int, revision: int | None = None, after: str = "", limit: int = 100
) -> object:
    """Items in order, by the filters of the dataset's page: split, mask, label (several), group, problem, size, name.

    `revision` is a revision's number; without it, the newest.
    """
    dataset = get_visible(Dataset.objects.all(), asker(request), pk=dataset_id)
    chosen = _revision(dataset, revision)
    filters = Filters.of(dict(request.GET.lists()))
    number = max(1, min(limit, MOST))
    found = item_pages.next_items(chosen, filters, item_pages.key_of(after), number=number + 1)
    total, more = counts.count(chosen, filters)
    last = found[number - 1] if len(found) > number else None
    return {
        "revision": chosen.number,
        "total": total,
        "more_than_total": more,
        "items": found[:number],
        "next": f"{last.position}_{last.pk}" if last else None,
    }


@router.get("/items/{item_id}", response=ItemOut)
def get_item(request: HttpRequest, item_id: int) -> object:
    return get_visible(Item.objects.all(), asker(request), project="dataset__project", pk=item_id)


def _revision(dataset: Dataset, number: int | None) -> Revision:
    found = dataset.revisions.all() if number is None else dataset.revisions.filter(number=number)
    revision = found.first()
    if revision is None:
        raise Http404
    return revision
