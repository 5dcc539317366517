"""Reports of uploads on pages: what was added, and what was left out."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_safe

from webapp.datasets.intake import report as intake_report
from webapp.datasets.intake.report import csv_lines
from webapp.datasets.models import Dataset, Upload
from webapp.datasets.pages.doctor_tab import RULES
from webapp.jobs.models import State
from webapp.projects.access import get_visible, signed_in
from webapp.streaming import streamed


@require_safe
def download_csv(request: HttpRequest, upload_id: uuid.UUID) -> StreamingHttpResponse:
    """All that was left out of an upload and why, as CSV."""
    upload = get_visible(Upload.objects.all(), signed_in(request), project="dataset__project", pk=upload_id)
    return streamed(
        request, csv_lines(upload.report), filename=f"{Path(upload.filename).name} left out.csv", media_type="text/csv"
    )


@dataclass(frozen=True)
class UploadReport:
    """An upload that has ended: a sentence on what it brought, and lists of what it did not."""

    upload: Upload
    sentence: str
    refused: list[dict[str, str]]
    """The first few hundred entries of this list and the next two; `counts` has the totals."""
    unpaired: list[str]
    rules: list[str]
    """Sentences: which known set it is, where labels came from."""
    unmatched: list[str]
    """Names in tables of labels that no image has."""
    counts: dict[str, int]

    level: str
    """`done`, `warning` or `failed`."""

    @property
    def more(self) -> bool:
        """Whether more was left out than is listed here."""
        return any(self.counts[name] > len(getattr(self, name)) for name in self.counts)

    @property
    def may_read_again(self) -> bool:
        """Its bytes are still here, and its job has given up: for want of space on the disk, perhaps."""
        return self.upload.state == Upload.State.READING and self.upload.job is not None


def uploads_ended(dataset: Dataset) -> QuerySet[Upload]:
    """Uploads that have been read, or that could not be, the newest first."""
    could_not = Q(state=Upload.State.READING, job__state__in=[State.FAILED, State.CANCELLED])
    ended = dataset.uploads.filter(Q(state__in=[Upload.State.DONE, Upload.State.FAILED]) | could_not)
    return ended.select_related("job", "created_by").order_by("-created_at")


def uploads_reading(dataset: Dataset) -> QuerySet[Upload]:
    """Uploads that have arrived and wait to be read, or are being read."""
    reading = dataset.uploads.filter(state=Upload.State.READING, job__isnull=False)
    return reading.exclude(job__state__in=[State.FAILED, State.CANCELLED]).select_related("job")


def report_of(upload: Upload) -> UploadReport:
    report: dict[str, Any] = upload.report or {}
    failed = upload.state != Upload.State.DONE
    return UploadReport(
        upload=upload,
        sentence=_failure(upload) if failed else _success(report),
        level="failed"
        if failed
        else "warning"
        if any(report.get(name) for name in ("refused", "unpaired", "unmatched"))
        else "done",
        refused=report.get("refused", []),
        unpaired=report.get("unpaired", []),
        rules=report.get("rules", []),
        unmatched=report.get("unmatched", []),
        counts={name: intake_report.count_of(report, name) for name in ("refused", "unpaired", "unmatched")},
    )


def _failure(upload: Upload) -> str:
    reason = upload.job.reason if upload.job else ""
    return f"Not imported. {reason}".strip()


def _success(report: dict[str, Any]) -> str:
    """ "42 images added, 42 masks paired by folder, 0 unpaired. 1 file left out." """
    added = report.get("added", 0)
    parts = [f"{_counted(added, 'image')} added" if added else "No new image"]
    parts += [f"{_counted(n, 'mask')} paired {RULES.get(rule, rule)}" for rule, n in report.get("paired", {}).items()]
    if report.get("paired") or report.get("unpaired"):
        parts.append(f"{intcomma(intake_report.count_of(report, 'unpaired'))} unpaired")
    sentence = ", ".join(parts) + "."
    if refused := intake_report.count_of(report, "refused"):
        sentence += f" {_counted(refused, 'file')} left out."
    return sentence


def _counted(number: int, noun: str) -> str:
    return f"{intcomma(number)} {noun}{'' if number == 1 else 's'}"
