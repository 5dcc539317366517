"""What a classification answered for each image that it was judged on, from the table that it kept."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from django.core.files.storage import default_storage
from django.urls import reverse

from webapp.datasets.models import Item, Revision
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


def revision_of(job: Job) -> Revision | None:
    """What the job ran on; None where that is gone, or was no dataset."""
    return Revision.objects.filter(pk=job.inputs.get("dataset", {}).get("revision")).first()


def items_of(job: Job, names: list[str]) -> dict[str, Item]:
    """The images of these names in the revision that the job ran on; an image that is gone for good is left out."""
    revision = revision_of(job)
    if revision is None or not names:
        return {}
    return {item.name: item for item in revision.items.filter(name__in=names)}


def linked(job: Job, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of results, each with `name`, with the address of the image that they are about as `address`."""
    revision = revision_of(job)
    items = items_of(job, [row["name"] for row in rows if "name" in row])
    return [
        {**row, "address": f"{reverse('item', args=[items[row['name']].pk])}?revision={revision.number}"}
        if revision and row.get("name") in items
        else row
        for row in rows
    ]
