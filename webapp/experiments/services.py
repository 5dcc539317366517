"""Starting experiments: a protocol is a graph of jobs, which are submitted together."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from ml_core.specs import Refusal, Spec, SpecError, from_preset
from webapp.datasets.models import Revision
from webapp.experiments.models import Experiment
from webapp.jobs.models import Job
from webapp.jobs.services import job_submit
from webapp.projects.models import Project, User

PROTOCOLS = {"pipeline": "Colorize, pretrain, segment, CAM"}
PRESETS = ("quick", "recommended", "paper")


@transaction.atomic
def experiment_start(
    *, project: Project, user: User, preset: str, revision: Revision, protocol: str = "pipeline"
) -> Experiment:
    """Queues every job of `protocol` on `revision`; each waits for jobs whose artifacts it uses. Raises SpecError."""
    if protocol not in PROTOCOLS:
        raise SpecError([Refusal("protocol", f"There is no protocol {protocol}; there is: {', '.join(PROTOCOLS)}.")])
    experiment = Experiment.objects.create(
        project=project,
        name=f"{revision.dataset.name}, {preset}",
        protocol=protocol,
        preset=preset,
        created_by=user,
    )

    def submit(spec: Spec, name: str, **inputs: dict[str, Any]) -> Job:
        dataset = {"revision": revision.pk}
        return job_submit(
            project=project,
            user=user,
            spec=spec,
            inputs={"dataset": dataset, **inputs},
            name=name,
            experiment_id=experiment.pk,
        )

    colour = submit(from_preset("colorize", preset), f"Colorize {revision.dataset.name}")
    encoder = submit(from_preset("pretrain", preset), "BYOL, colour", colour=_made(colour, "colour"))
    segmenter = submit(from_preset("segment", preset), "U-Net, BYOL colour", encoder=_made(encoder, "encoder"))
    submit(from_preset("cam", preset), "Grad-CAM of the U-Net", segmenter=_made(segmenter, "segmenter"))
    return experiment


def _made(job: Job, kind: str) -> dict[str, Any]:
    return {"job": job.pk, "artifact": kind}
