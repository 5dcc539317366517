"""What pages say of uploads and of problems, in whole sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import Q, QuerySet

from webapp.datasets.intake import report as left_out
from webapp.datasets.models import Dataset, Item, Revision, Upload
from webapp.datasets.queries.mask_counts import Unknown, empty_layers, unknown_values
from webapp.datasets.revisions.mask_edits import with_problem
from webapp.datasets.revisions.problems import TITLES
from webapp.jobs.models import State

EXAMPLES = 12
"""Items that the doctor shows of each kind of problem."""

RULES = {
    "folder": "by folder",
    "suffix": "by suffix",
    "stack": "stack with stack",
    "numbers": "by the numbers in their names",
    "hand": "by hand",
}
REMEDIES = {
    "unpaired": "Add the missing masks under the names of their images. Images without one are left out of training a "
    "segmentation, and used for everything else.",
    "empty_mask": "Right where there is nothing to mark: keep them as “nothing here”. Where nobody has marked yet, "
    "take them off, or export them again and add them here.",
    "unknown_values": "Say what each value is, or export these masks again with the values of the others and add them.",
    "size_mismatch": "Export these masks at the size of their images, and add them here.",
    "constant": "They teach nothing. Export them again, or leave them out.",
    "duplicate": "The same image in training and test makes scores too high. Leave one of each pair out.",
    "inverted": "A network takes bright for dark in them. Inverting turns what is shown and trained on; the stored "
    "pixels stay as they are.",
    "colour": "Electron micrographs are grey; look whether these belong here.",
}


FIXES = {
    "constant": ("remove", "Leave all out"),
    "duplicate": ("remove", "Leave the second of each out"),
    "colour": ("remove", "Leave all out"),
    "inverted": ("invert", "Invert all"),
}
"""Kind of problem -> what `editor.CHANGES` calls the cure, and what its button says."""


@dataclass(frozen=True)
class Finding:
    """A kind of problem with what to do. `fix` is a cure by one click and its words; empty where there is none."""

    kind: str
    title: str
    remedy: str
    count: int
    items: list[Item]
    fix: tuple[str, str] | None
    values: list[Unknown]
    """Values of masks that no class uses, each to be named or merged."""
    empty: dict[str, int]
    """Layer -> masks with nothing in them."""


def findings_of(revision: Revision) -> list[Finding]:
    """Every kind of problem in the revision, the most frequent first, with a few of its items."""
    counts: dict[str, int] = revision.summary.get("problems", {})
    return [
        Finding(
            kind=kind,
            title=TITLES.get(kind, kind.replace("_", " ").capitalize()),
            remedy=REMEDIES.get(kind, ""),
            count=count,
            items=list(with_problem(revision.items, kind)[:EXAMPLES]),
            fix=FIXES.get(kind),
            values=unknown_values(revision) if kind == "unknown_values" else [],
            empty=empty_layers(revision) if kind == "empty_mask" else {},
        )
        for kind, count in sorted(counts.items(), key=lambda pair: -pair[1])
    ]


def without_pixel_size(revision: Revision) -> int:
    """How many images of the revision do not say how large their pixels are."""
    return int(revision.summary.get("pixel_sizes", {}).get("", 0))


def masks_of(revision: Revision) -> list[dict[str, Any]]:
    """Every mask layer with its classes and how many images have it."""
    return [
        {"layer": layer, "count": count, "classes": revision.dataset.classes.get(layer, {})}
        for layer, count in revision.summary.get("masks", {}).items()
    ]


@dataclass(frozen=True)
class UploadReport:
    """An upload that has ended: a sentence on what it brought, and lists of what it did not."""

    upload: Upload
    sentence: str
    refused: list[dict[str, str]]
    """Of this list and the next two the first few hundred; `counts` says how many there are."""
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
        """Whether more was left out than stands here."""
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
        counts={name: left_out.count_of(report, name) for name in ("refused", "unpaired", "unmatched")},
    )


def _failure(upload: Upload) -> str:
    reason = upload.job.reason if upload.job else ""
    return f"Not taken in. {reason}".strip()


def _success(report: dict[str, Any]) -> str:
    """ "42 images added, 42 masks paired by folder, 0 unpaired. 1 file left out." """
    added = report.get("added", 0)
    parts = [f"{_counted(added, 'image')} added" if added else "No new image"]
    parts += [f"{_counted(n, 'mask')} paired {RULES.get(rule, rule)}" for rule, n in report.get("paired", {}).items()]
    if report.get("paired") or report.get("unpaired"):
        parts.append(f"{intcomma(left_out.count_of(report, 'unpaired'))} unpaired")
    sentence = ", ".join(parts) + "."
    if refused := left_out.count_of(report, "refused"):
        sentence += f" {_counted(refused, 'file')} left out."
    return sentence


def _counted(number: int, noun: str) -> str:
    return f"{intcomma(number)} {noun}{'' if number == 1 else 's'}"
