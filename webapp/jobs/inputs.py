"""The inputs of a job: validated when it is submitted, resolved to files when a worker claims it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from ml_core.specs import SPECS, InputSlot, Refusal, Spec
from ml_core.specs.inactive_fields import OWN_VALIDATION
from webapp.datasets.models import Dataset, Revision, Upload
from webapp.jobs.models import Artifact, Job
from webapp.projects.models import Project


class InputGone(Exception):
    """An input that existed when the job was submitted is missing; the text names it and the remedy."""


def revision_in(inputs: Mapping[str, Any]) -> Revision | None:
    """The revision that a job with these inputs runs on; None if it was deleted or there is none."""
    return Revision.objects.select_related("dataset").filter(pk=inputs.get("dataset", {}).get("revision")).first()


def dataset_provides(revision: Revision) -> tuple[str, ...]:
    """What a dataset provides beside itself, as `ml_core.specs.inactive_fields` names it."""
    return (OWN_VALIDATION,) if revision.summary.get("splits", {}).get("validation") else ()


def check_inputs(spec: Spec, inputs: Mapping[str, Any], *, project: Project) -> list[Refusal]:
    """Validates the inputs: one error per slot; empty if all are valid."""
    slots = {slot.name: slot for slot in type(spec).inputs}
    refused = [Refusal(name, f"{spec.title} takes no input {name}. Remove it.") for name in inputs if name not in slots]
    refused += spec.lacking([name for name, reference in inputs.items() if reference is not None])
    for slot in slots.values():
        reference = inputs.get(slot.name)
        if reference is None:
            continue
        sentence = _refusal(slot, reference, inputs, project)
        if sentence:
            refused.append(Refusal(slot.name, sentence))
    return refused or values_refused(spec, inputs)


def values_refused(spec: Spec, inputs: Mapping[str, Any]) -> list[Refusal]:
    """Validates fields whose values come from the dataset: one error per field."""
    revision = revision_in(inputs)
    layers = sorted(revision.summary.get("masks", {})) if revision else []
    wanted = getattr(spec, "mask_layer", None)
    if wanted is None or not revision or not layers or wanted in layers or (not wanted and len(layers) == 1):
        return []
    there = f"{revision.dataset.name} has the mask layer{'' if len(layers) == 1 else 's'} {', '.join(layers)}"
    return [Refusal("mask_layer", f"{there}, and not {wanted}." if wanted else f"{there}: choose which to learn.")]


def _refusal(slot: InputSlot, reference: Any, inputs: Mapping[str, Any], project: Project) -> str:
    if not isinstance(reference, dict):
        return f"{slot.label}: this is no reference to a dataset, a job or an upload."
    if slot.takes == "revision":
        return _refuse_revision(slot, reference, project)
    if slot.takes == "upload":
        known = _upload(reference.get("upload"))
        return "" if known and known.dataset.project_id == project.pk else "This upload is not in the project."
    return _refuse_artifact(slot, reference, inputs, project)


def _refuse_revision(slot: InputSlot, reference: dict[str, Any], project: Project) -> str:
    number = _id(reference.get("revision"))
    found = Revision.objects.select_related("dataset").filter(dataset__project=project)
    revision = found.filter(pk=number).first() if number else None
    if revision is None or set(reference) != {"revision"}:
        return f"{slot.label}: there is no such revision in this project. Choose one of the list."
    if revision.dataset.kind == Dataset.Kind.PHOTOGRAPHS and not slot.photographs:
        return (
            f"{revision.dataset.name} holds colour photographs, from which only a colorizer learns. Choose micrographs."
        )
    return "" if revision.items_count else f"{revision.dataset.name} is empty. Add micrographs first."


def _refuse_artifact(slot: InputSlot, reference: dict[str, Any], inputs: Mapping[str, Any], project: Project) -> str:
    number = _id(reference.get("job"))
    job = Job.objects.filter(pk=number, project=project).first() if number else None
    if job is None or set(reference) != {"job", "artifact"}:
        return f"{slot.label}: there is no such job in this project. Choose one of the list."
    makes = SPECS[job.kind].makes if job.kind in SPECS else ()
    if reference["artifact"] != slot.takes or slot.takes not in makes:
        return f"{slot.label}: {job} makes no {slot.takes}. Choose a job that does."
    if slot.takes == "colour" and job.inputs.get("dataset") != inputs.get("dataset"):
        # The planes are in the order of that revision's items: on another they would colour the wrong images.
        return f"The colour of {job} is of another dataset or revision. Colorize this one, or choose that one."
    return ""


def _id(value: Any) -> int | None:
    """`value` if it is a valid row id, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else None


def _upload(value: Any) -> Upload | None:
    try:
        return Upload.objects.select_related("dataset").filter(pk=uuid.UUID(str(value))).first()
    except ValueError:
        return None


def jobs_taken_from(inputs: Mapping[str, Any]) -> list[int]:
    """The ids of the jobs whose artifacts the inputs name."""
    return [reference["job"] for reference in inputs.values() if "job" in reference]


def blob_path(sha256: str) -> Path:
    return Path(settings.BLOBS) / sha256[:2] / sha256


def resolve(job: Job) -> dict[str, dict[str, Any]]:
    """The `slots` of `inputs.json`: each input as a file with its hash. Raises InputGone."""
    return {name: _resolve(name, reference, job) for name, reference in job.inputs.items()}


def _resolve(name: str, reference: Mapping[str, Any], job: Job) -> dict[str, Any]:
    if "revision" in reference:
        revision = Revision.objects.select_related("dataset").filter(pk=reference["revision"]).first()
        if revision is None:
            raise InputGone("The dataset of this job has been deleted. Start a new job on another one.")
        path = _there(blob_path(revision.manifest), f"the manifest of {revision.dataset.name}")
        facts = {"revision": revision.pk, "name": revision.dataset.name, "manifest": revision.manifest}
        return {**facts, "path": str(path)}
    if "upload" in reference:
        upload = _upload(reference["upload"])
        if upload is None:
            raise InputGone("The upload of this job has been deleted. Upload the file again.")
        path = _there(Path(settings.SPOOL) / str(upload.pk), f"the upload {upload.filename}")
        return {"upload": str(upload.pk), "path": str(path), "filename": upload.filename}
    kind = reference["artifact"]
    artifact = Artifact.objects.filter(job_id=reference["job"], kind=kind).order_by("pk").last()
    if artifact is None:
        raise InputGone(f"Job #{reference['job']} has left no {kind}. Run it again, or choose another for {name}.")
    path = _there(blob_path(artifact.sha256), f"the {kind} of job #{reference['job']}")
    return {
        "job": reference["job"],
        "artifact": kind,
        "sha256": artifact.sha256,
        "path": str(path),
        "facts": artifact.facts,
    }


def _there(path: Path, what: str) -> Path:
    if not path.is_file():
        raise InputGone(f"A file is missing from the storage: {what}. Restore it from a backup or make it again.")
    return path
