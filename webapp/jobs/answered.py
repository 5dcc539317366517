"""What a classification answered for each image that it was judged on, from the table that it kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.core.files.storage import default_storage
from django.urls import reverse

from webapp.datasets.models import Item, Revision
from webapp.jobs.inputs import revision_in
from webapp.jobs.models import Job

TABLE = "predictions.csv"


@dataclass(frozen=True)
class Answer:
    """One image: its class, the one that it was taken for, and how sure the answer was, 0 to 1."""

    name: str
    label: str
    predicted: str
    confidence: float


def answers_of(job: Job, *, label: str = "", predicted: str = "") -> list[Answer]:
    """The judged images of class `label` that were taken for `predicted`, the surest first; empty stands for any class.

    Nothing where the job kept no table.
    """
    table = job.artifacts.filter(kind="table", name=TABLE).order_by("-id").first()
    if table is None:
        return []
    with default_storage.open(table.sha256) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        found = [
            Answer(row["name"], row["label"], row["predicted"], float(row["confidence"]))
            for row in rows
            if row["part"] == job.results.get("part")
            and label in ("", row["label"])
            and predicted in ("", row["predicted"])
        ]
    return sorted(found, key=lambda answer: -answer.confidence)


def items_of(revision: Revision | None, names: Collection[str]) -> dict[str, Item]:
    """The images of these names in the revision; one that is gone for good is left out, with the revision all are."""
    if revision is None or not names:
        return {}
    return {item.name: item for item in revision.items.filter(name__in=names)}


def linked(job: Job, *tables: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Tables of results about images, whose rows have a `name`: each row with the image's address as `address`, where
    it is still there."""
    revision = revision_in(job.inputs)
    items = items_of(revision, {row["name"] for rows in tables for row in rows if "name" in row})

    def with_address(row: dict[str, Any]) -> dict[str, Any]:
        if revision is None or (item := items.get(row.get("name", ""))) is None:
            return row
        return {**row, "address": f"{reverse('item', args=[item.pk])}?revision={revision.number}"}

    return [[with_address(row) for row in rows] for rows in tables]
