"""What the page of one job shows: results, inputs, every field of its specification, its record."""

from __future__ import annotations

import math
from typing import Any

from ml_core.specs import SpecError, differences, fields_of, load_spec
from webapp.datasets.models import Revision
from webapp.jobs import services
from webapp.jobs.answered import linked
from webapp.jobs.figures import headline
from webapp.jobs.inputs import revision_in
from webapp.jobs.models import Job
from webapp.jobs.results import class_rows, confusion_of, mistakes_of, result_rows, worst_images


def context_of(job: Job) -> dict[str, Any]:
    """All that the template needs of the job itself; who may do what is the view's business."""
    snapshot, about = services.snapshot(job), _about(job)
    worst, mistakes = linked(job, worst_images(job), mistakes_of(job))
    return {
        "job": job,
        "about": about,
        "snapshot": snapshot,
        "figure": headline(job),
        "results": result_rows(job),
        "worst": worst,
        "confusion": confusion_of(job),
        "classes": class_rows(job),
        "mistakes": mistakes,
        "inputs": _inputs(job),
        "followers": job.followers.all(),
        "spec_rows": _spec_rows(job),
        "files": job.artifacts.exclude(media_type__startswith="image/").order_by("-id")[:50],
        "page": {
            "id": job.pk,
            "caption": f"#{job.pk} {job.name} · {about}",
            "snapshot": snapshot,
            "references": _references(job),
        },
    }


def _inputs(job: Job) -> list[dict[str, Any]]:
    """The job's inputs as rows: slot, what was taken, where it is to be seen."""
    rows = []
    for slot, reference in job.inputs.items():
        if "revision" in reference:
            revision = Revision.objects.select_related("dataset").filter(pk=reference["revision"]).first()
            rows.append({"slot": slot, "revision": revision})
        elif "job" in reference:
            rows.append({"slot": slot, "job": Job.objects.filter(pk=reference["job"]).first()})
        else:
            rows.append({"slot": slot, "upload": str(reference.get("upload", ""))})
    return rows


def _spec_rows(job: Job) -> list[dict[str, Any]]:
    """Every field of the specification with its value, and the preset's where it differs."""
    try:
        spec = load_spec(job.spec)
    except SpecError:
        return [{"label": name, "value": value} for name, value in job.spec.items()]
    changed = differences(spec)
    rows = []
    for info in fields_of(job.kind):
        value, labels = getattr(spec, info.name), dict(info.choices)
        row = {"label": info.label, "unit": info.unit, "value": labels.get(str(value), value)}
        if info.name in changed:
            row["preset_value"] = labels.get(str(changed[info.name][0]), changed[info.name][0])
        rows.append(row)
    return rows


def _about(job: Job) -> str:
    """What must be in sight wherever a figure of this job is: data and its revision, preset, where colour came from."""
    parts = []
    if revision := revision_in(job.inputs):
        parts.append(f"{revision.dataset.name} rev {revision.short_name}")
    parts.append(f"preset {job.spec.get('preset', 'own')}")
    colour = job if job.kind == "colorize" else Job.objects.filter(pk=job.inputs.get("colour", {}).get("job")).first()
    if colour:
        parts.append(f"colour {colour.spec.get('method', 'unknown')}")
    return " · ".join(parts)


def _references(job: Job) -> list[dict[str, object]]:
    """Dashed lines of the charts: what a figure would be if nothing were learnt, or what is healthy."""
    found: list[dict[str, object]] = []
    if isinstance(size := job.spec.get("projection_size"), int) and size > 0:
        found.append({"quantity": "embedding_std", "value": 1 / math.sqrt(size), "label": f"healthy, 1/√{size}"})
    if isinstance(floor := job.results.get("floor"), int | float):
        found.append({"quantity": "mean_iou", "value": floor, "label": "predict nothing"})
    return found
