"""The template context of a job's page: results, inputs, every field of its specification, its run record."""

from __future__ import annotations

import math
from typing import Any

from ml_core.specs import SpecError, differences, fields_of, format_field, load_spec, without_effect
from webapp.jobs.inputs import dataset_provides, revision_in
from webapp.jobs.lifecycle import snapshot as lifecycle_snapshot
from webapp.jobs.models import Job
from webapp.jobs.results.classification_scores import class_rows, confusion_of, mistakes_of
from webapp.jobs.results.headline import headline
from webapp.jobs.results.predictions import link_images
from webapp.jobs.results.result_facts import fact_lines
from webapp.jobs.results.result_rows import notes_of, result_rows
from webapp.jobs.results.run_record import device_of, inputs_of, software_of, steps_of
from webapp.jobs.results.segmentation_scores import class_scores, curve_of, score_rows, worst_images


def context_of(job: Job) -> dict[str, Any]:
    """The template context of the job itself; the view adds what depends on the user's permissions."""
    snapshot, about = lifecycle_snapshot.snapshot(job), _about(job)
    return {
        "job": job,
        "about": about,
        "snapshot": snapshot,
        "followers": job.followers.all(),
        "spec_rows": _spec_rows(job),
        "files": job.artifacts.exclude(media_type__startswith="image/").order_by("-id")[:50],
        "page": {
            "id": job.pk,
            "caption": f"#{job.pk} {job.name} · {about}",
            "snapshot": snapshot,
            "references": _references(job),
        },
        **_results(job),
        **_record(job),
    }


def _results(job: Job) -> dict[str, Any]:
    figure, scores = headline(job), score_rows(job)
    worst, mistakes = link_images(job, worst_images(job), mistakes_of(job))
    return {
        "figure": None if scores else figure,
        "notes": notes_of(job.results, figure.key) if figure else (),
        "scores": scores,
        "class_scores": class_scores(job),
        "curve": curve_of(job),
        "results": result_rows(job),
        "basis": fact_lines(job),
        "worst": worst,
        "confusion": confusion_of(job),
        "classes": class_rows(job),
        "mistakes": mistakes,
    }


def _record(job: Job) -> dict[str, Any]:
    return {
        "inputs": inputs_of(job),
        "device": device_of(job),
        "steps": steps_of(job),
        "software": software_of(job),
    }


def _spec_rows(job: Job) -> list[dict[str, str]]:
    """Every field of the specification with its value, and the preset's value if it differs; fields without effect come
    last, in one row."""
    try:
        spec = load_spec(job.spec)
    except SpecError:
        return [{"label": name, "text": str(value)} for name, value in job.spec.items()]
    changed, idle = differences(spec), _without_effect(job)
    rows: list[dict[str, str]] = []
    silent: list[str] = []
    for info in fields_of(job.kind):
        if info.name not in idle:
            row = {"label": info.label, "text": format_field(info, getattr(spec, info.name))}
            rows.append(
                row | ({"preset_text": format_field(info, changed[info.name][0])} if info.name in changed else {})
            )
        elif idle[info.name]:
            rows.append({"label": info.label, "text": f"taken from the {idle[info.name]}"})
        else:
            silent.append(info.label)
    return rows + ([{"label": "Without effect", "text": ", ".join(silent)}] if silent else [])


def _without_effect(job: Job) -> dict[str, str]:
    revision = revision_in(job.inputs)
    return without_effect(job.kind, job.spec, given={*job.inputs, *(dataset_provides(revision) if revision else ())})


def _about(job: Job) -> str:
    """Context that every figure of this job needs beside it: dataset and revision, preset, the source of its colour."""
    parts = []
    if revision := revision_in(job.inputs):
        parts.append(f"{revision.dataset.name} rev {revision.short_name}")
    parts.append(f"preset {job.spec.get('preset', 'own')}")
    colour = job if job.kind == "colorize" else Job.objects.filter(pk=job.inputs.get("colour", {}).get("job")).first()
    if colour:
        parts.append(f"colour {colour.spec.get('method', 'unknown')}")
    return " · ".join(parts)


def _references(job: Job) -> list[dict[str, object]]:
    """Dashed reference lines of the charts: the value without any learning, or a healthy one."""
    found: list[dict[str, object]] = []
    if isinstance(size := job.spec.get("projection_size"), int) and size > 0:
        found.append({"quantity": "embedding_std", "value": 1 / math.sqrt(size), "label": f"healthy, 1/√{size}"})
    if isinstance(floor := job.results.get("floor"), int | float):
        found.append({"quantity": "mean_iou", "value": floor, "label": "predict nothing"})
    return found
