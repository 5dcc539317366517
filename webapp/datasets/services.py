"""Datasets: made, and later renamed and deleted."""

from __future__ import annotations

from webapp.datasets.models import Dataset
from webapp.projects.models import Project, User


def dataset_create(*, project: Project, user: User | None, name: str, kind: str = Dataset.Kind.MICROGRAPHS) -> Dataset:
    return Dataset.objects.create(project=project, name=name.strip()[:200], created_by=user, kind=kind)
