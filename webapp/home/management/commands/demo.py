"""The demo: a project with synthetic micrographs, and the whole pipeline at the preset `quick` queued on them."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from ml_core.data.synthetic import write_folder
from webapp.datasets.intake.services import dataset_from_folder
from webapp.datasets.models import Dataset
from webapp.experiments.services import experiment_start
from webapp.projects.models import Project, User
from webapp.projects.services import project_create

PARTS = {"train": 32, "validation": 8, "test": 8}
"""Micrographs per part of the split, which intake reads from the names of the folders."""
SIZE = 256


class Command(BaseCommand):
    help = (
        "Creates the demo project and trains on it. A second call changes nothing; one that was interrupted continues."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--user",
            default="demo",
            help="its owner, created as an administrator if there is no such user (demo)",
        )

    def handle(self, *, user: str, **_: Any) -> None:
        owner = User.objects.filter(username=user).first() or User.objects.create_superuser(user)
        project = Project.objects.filter(name="Demo", members=owner).first() or project_create(user=owner, name="Demo")
        if project.experiments.exists():
            return
        dataset = _dataset(project, owner)
        revision = dataset.revisions.latest("number")
        experiment_start(project=project, user=owner, preset="quick", revision=revision)
        print(f"The demo project is ready: {sum(PARTS.values())} synthetic micrographs, four jobs in the queue.")


def _dataset(project: Project, owner: User) -> Dataset:
    whole = project.datasets.filter(revisions__isnull=False).first()
    if whole is not None:
        return whole
    project.datasets.all().delete()  # left by an interrupted start, without a revision
    with tempfile.TemporaryDirectory(prefix="cristae-demo-") as folder:
        for seed, (part, count) in enumerate(PARTS.items()):
            write_folder(Path(folder) / part, count=count, size=SIZE, seed=seed)
        return dataset_from_folder(project=project, name="Synthetic micrographs", folder=Path(folder), user=owner)
