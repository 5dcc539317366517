"""The predictions of a classification for its evaluated images, with links to them in the viewer."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.files.storage import default_storage
from django.urls import reverse

from webapp.datasets.models import Item, Revision
from webapp.jobs.inputs import revision_in
from webapp.jobs.models import Job

TABLE = "predictions.csv"


@dataclass(frozen=True)
class Prediction:
    """One image: its class, the predicted class, and the confidence of the prediction, 0 to 1."""

    name: str
    label: str
    predicted: str
    confidence: float


def answers_of(job: Job, *, label: str = "", predicted: str = "") -> list[Prediction]:
    """The images of class `label` that were predicted as `predicted`, most confident first; empty means any class.

    Empty if the job kept no table of predictions.
    """
    table = job.artifacts.filter(kind="table", name=TABLE).order_by("-id").first()
    if table is None:
        return []
    with default_storage.open(table.sha256) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        found = [
            Prediction(row["name"], row["label"], row["predicted"], float(row["confidence"]))
            for row in rows
            if row["part"] == job.results.get("part")
            and label in ("", row["label"])
            and predicted in ("", row["predicted"])
        ]
    return sorted(found, key=lambda answer: -answer.confidence)


def items_of(revision: Revision | None, names: Collection[str]) -> dict[str, Item]:
    """The images of these names in the revision, without deleted ones; empty if the revision itself was deleted."""
    if revision is None or not names:
        return {}
    return {item.name: item for item in revision.items.filter(name__in=names)}


@dataclass(frozen=True)
class ShownItem:
    """An image that results name: its row there and, while the image exists, its item and address."""

    row: dict[str, Any]
    item: Item | None
    address: str
    """Its URL in the viewer, with this job's prediction for it if one was kept; empty if the image was deleted."""


def link_images(job: Job, *tables: list[dict[str, Any]]) -> list[list[ShownItem]]:
    """Links rows of result tables to their images: rows have a `name` and, if the job keeps predictions, the `item`
    that identifies these."""
    revision = revision_in(job.inputs)
    items = items_of(revision, {row["name"] for rows in tables for row in rows if "name" in row})
    predictions = _predictions(job, {row["item"] for rows in tables for row in rows if "item" in row})

    def one(row: dict[str, Any]) -> ShownItem:
        item = items.get(row.get("name", ""))
        if revision is None or item is None:
            return ShownItem(row, None, "")
        asked = {"revision": revision.number}
        if (prediction := predictions.get(row.get("item"))) is not None:
            asked["run"] = prediction
        return ShownItem(row, item, f"{reverse('item', args=[item.pk])}?{urlencode(asked)}")

    return [[one(row) for row in rows] for rows in tables]


def _predictions(job: Job, positions: Collection[int]) -> dict[int | None, int]:
    """Position in the manifest -> id of the newest prediction that the job kept for the image there."""
    kept = job.artifacts.filter(kind="prediction", facts__item__in=list(positions)).order_by("id")
    return dict(kept.values_list("facts__item", "pk"))
