"""The run record: environment, inputs and settings of a job, as tables for the page and as one file for a paper."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from webapp.datasets.models import Revision
from webapp.jobs.models import Job

_SOFTWARE = {
    "cristae": "Cristae",
    "python": "Python",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "numpy": "NumPy",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "grad-cam": "grad-cam",
}
_OF_THE_RUN = ("host", "device", "precision", "threads", "steps_per_epoch", "resumed_step", "extended_step")
_ELSEWHERE = {*_OF_THE_RUN, "inputs", "total_steps"}


@dataclass(frozen=True)
class Input:
    """The input in one slot. `sha256` is that of the manifest or file that the run read; empty until it has."""

    slot: str
    sha256: str
    revision: Revision | None = None
    job: Job | None = None
    upload: str = ""


def inputs_of(job: Job) -> list[Input]:
    """The job's inputs in their order, with the objects that they name while these exist."""
    hashes = job.record.get("inputs")
    found = []
    for slot, reference in job.inputs.items():
        sha256 = str(hashes.get(slot, "")) if isinstance(hashes, dict) else ""
        if "revision" in reference:
            revision = Revision.objects.select_related("dataset").filter(pk=reference["revision"]).first()
            found.append(Input(slot, sha256 or (revision.manifest if revision else ""), revision=revision))
        elif "job" in reference:
            found.append(Input(slot, sha256, job=Job.objects.filter(pk=reference["job"]).first()))
        else:
            found.append(Input(slot, sha256, upload=str(reference.get("upload", ""))))
    return found


def device_of(job: Job) -> str:
    """ "cuda:0, NVIDIA H200": the device, with its model if the trainer reported it."""
    model = str(job.record.get("device", ""))
    if not model or model.upper().startswith(job.device.upper()):
        return model or job.device
    return f"{job.device}, {model}" if job.device else model


def steps_of(job: Job) -> str:
    """ "120 of 120"; empty for a job without steps. `job.ts` formats later snapshots in the same way."""
    total = job.record.get("total_steps")
    return f"{job.step:,} of {total:,}" if isinstance(total, int) else ""


def software_of(job: Job) -> list[tuple[str, str]]:
    """Names and versions, Cristae's own with its commit first; then all others that the trainer recorded."""
    known = [(name, str(job.record[key])) for key, name in _SOFTWARE.items() if key in job.record]
    other = [
        (key.replace("_", " "), str(value))
        for key, value in job.record.items()
        if key not in _SOFTWARE and key not in _ELSEWHERE
    ]
    return known + other


def run_record(job: Job) -> dict[str, Any]:
    """Everything needed to describe this run and to repeat it, as plain values for JSON."""
    return {
        "job": {
            "id": job.pk,
            "name": job.name,
            "kind": job.kind,
            "project": job.project.name,
            "state": job.state,
            "reason": job.reason,
            "attempts": job.epoch,
            "step": job.step,
            "worker": job.worker,
            "device": job.device,
            "created_at": _iso(job.created_at),
            "started_at": _iso(job.started_at),
            "ended_at": _iso(job.ended_at),
        },
        "spec": job.spec,
        "inputs": {found.slot: _input(found) | job.inputs[found.slot] for found in inputs_of(job)},
        "record": job.record,
        "results": job.results,
        "files": list(job.artifacts.values("kind", "name", "sha256", "size", "step")),
    }


def _input(found: Input) -> dict[str, Any]:
    row: dict[str, Any] = {"sha256": found.sha256}
    if found.revision:
        row |= {"dataset": found.revision.dataset.name, "number": found.revision.number}
    if found.job:
        row["name"] = found.job.name
    return row


def _iso(time: datetime.datetime | None) -> str | None:
    return time.isoformat() if time else None
