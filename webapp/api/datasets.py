"""Datasets and their revisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from webapp.api.auth import asker
from webapp.datasets.models import Dataset
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
