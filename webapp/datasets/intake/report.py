"""What of an upload did not go in: the report holds the first of each list and how many there are; the whole of it is a
file to keep. A folder of a hundred thousand files that nobody can read must not make the page slow that says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.files.storage import default_storage

from webapp.datasets.models import Blob
from webapp.streaming import csv_parts, file_parts

SHOWN = 500
"""At most this many entries of each list are on a page and in the report."""


COLUMNS = ("file", "reason", "what to do")


_LONE_MASK = ("No image has its name.", "Add its image: the mask is kept, and is paired then.")


_LONE_LINE = ("A line of the table of labels has this name, and no image does.", "Fix the table and add it again.")


def shortened(report: dict[str, Any]) -> dict[str, Any]:
    """The report with no more than the first `SHOWN` of each list, their `counts`, and the hash of the whole `list`.

    Masks that wait for their images are kept beside it, whole, and need no second place.
    """
    lists = ("refused", "unpaired", "unmatched")
    short = {**report, **{name: report[name][:SHOWN] for name in lists}}
    short["counts"] = {name: len(report[name]) for name in lists}
    if max(len(report["refused"]), len(report["unmatched"])) > SHOWN:
        encoded = b"".join(csv_parts(_rows(report)))
        short["list"] = default_storage.put_bytes(encoded)  # type: ignore[attr-defined]
        Blob.objects.bulk_create([Blob(sha256=short["list"], size=len(encoded))], ignore_conflicts=True)
    return short


def count_of(report: dict[str, Any], name: str) -> int:
    """How many there are in all, also in reports of before they were counted."""
    return int(report.get("counts", {}).get(name, len(report.get(name, []))))


def _rows(report: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for each in report.get("refused", []):
        yield each["name"], each["reason"], each["remedy"]
    for name in report.get("unmatched", []):
        yield name, *_LONE_LINE


def csv_lines(report: dict[str, Any]) -> Iterator[bytes]:
    yield from csv_parts([COLUMNS])
    yield from file_parts(default_storage.open(report["list"])) if "list" in report else csv_parts(_rows(report))
    yield from csv_parts((name, *_LONE_MASK) for name in report.get("waiting_masks", {}))
