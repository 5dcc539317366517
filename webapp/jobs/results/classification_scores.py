"""Scores of a classification: confusion matrix, scores per class, most confident errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from webapp.jobs.models import Job


@dataclass(frozen=True)
class Cell:
    """Number of images of one class that were predicted as another, and their share of the row. `heat`: 1 to HEATS."""

    predicted: str
    count: int
    share: str
    heat: int
    right: bool


@dataclass(frozen=True)
class ConfusionRow:
    label: str
    cells: list[Cell]
    total: int


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix for display: a row per true class, a column per predicted one, totals at the edge."""

    labels: list[str]
    rows: list[ConfusionRow]
    column_totals: list[tuple[str, int]]
    """Totals by predicted class."""
    total: int


HEATS = 5
"""Colour steps from surface (zero) to accent, by the share of the row."""


def confusion_of(job: Job) -> Confusion | None:
    """The confusion matrix of a classification; None if the job recorded none."""
    found = job.results.get("confusion")
    if not isinstance(found, dict):
        return None
    labels, counts = found.get("labels"), found.get("counts")
    if not isinstance(labels, list) or not isinstance(counts, list) or len(labels) != len(counts):
        return None
    rows = []
    for place, (label, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row)
        cells = []
        for column, count in enumerate(row):
            share = count / total if total else 0.0
            heat = 1 + math.ceil(share * (HEATS - 1))
            text = f"{100 * share:.0f} %" if total else "no image"
            cells.append(Cell(predicted=labels[column], count=count, share=text, heat=heat, right=column == place))
        rows.append(ConfusionRow(label=label, cells=cells, total=total))
    columns = [(label, sum(column)) for label, column in zip(labels, zip(*counts, strict=True), strict=True)]
    return Confusion(labels=labels, rows=rows, column_totals=columns, total=sum(total for _, total in columns))


def class_rows(job: Job) -> list[dict[str, Any]]:
    """One row per class of a classification: label, precision, recall, support."""
    rows = job.results.get("per_class")
    return [row for row in rows if isinstance(row, dict) and "label" in row] if isinstance(rows, list) else []


def mistakes_of(job: Job, most: int = 24) -> list[dict[str, Any]]:
    """The most confident errors of a classification, in descending order of confidence."""
    rows = job.results.get("mistakes")
    return [row for row in rows if isinstance(row, dict)][:most] if isinstance(rows, list) else []
