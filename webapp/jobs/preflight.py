"""What can be said of a job before it is queued: memory, time, its place in the queue, and traps in its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db.models import F

from ml_core.specs import PretrainSpec, SegmentSpec, Spec, differences
from webapp.datasets.models import Revision
from webapp.jobs.models import OWNED, Job, Queue, State
from webapp.projects.models import Project

GIB = 2**30

# Counted with torch's saved-tensor hooks, float32, one image of 224 x 224: bytes kept for the backward pass per pixel
# of input. (encoder alone, U-Net, U-Net on a frozen encoder)
_KEPT_PER_PIXEL = {
    "resnet18": (443, 1279, 836),
    "resnet50": (1716, 2660, 944),
    "attention26": (1755, 2699, 944),
    "attention50": (3010, 3954, 944),
}
_PARAMETERS = {
    "resnet18": (11.2e6, 14.3e6),
    "resnet50": (23.5e6, 32.5e6),
    "attention26": (8.3e6, 17.3e6),
    "attention50": (16.0e6, 25.0e6),
}
_WORKSPACE = 1.3
"""Room for what the backward pass and the allocator take on top."""
_CONTEXT = 0.5 * GIB


@dataclass
class Preflight:
    """`memory` in bytes and `seconds` are None where nothing honest can be said; `warnings` are whole sentences."""

    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    memory: float | None = None
    seconds: float | None = None
    judged_by: Job | None = None
    ahead: int = 0
    warnings: list[str] = field(default_factory=list)


def preflight(spec: Spec, *, project: Project, revision: Revision | None, inputs: dict[str, Any]) -> Preflight:
    found = Preflight(changed=differences(spec), memory=_memory(spec), ahead=_ahead(spec.kind))
    if revision:
        found.judged_by = _alike(spec, project)
        if found.judged_by:
            found.seconds = _seconds(spec, revision, found.judged_by)
        found.warnings = _warnings(spec, revision, inputs)
    return found


def _memory(spec: Spec) -> float | None:
    """Upper estimate for float32; half precision takes about half of the part that grows with the batch."""
    if not isinstance(spec, PretrainSpec | SegmentSpec) or spec.encoder not in _KEPT_PER_PIXEL:
        return None
    encoder, unet, frozen_unet = _KEPT_PER_PIXEL[spec.encoder]
    pixels = spec.batch_size * spec.image_size**2
    if isinstance(spec, PretrainSpec):
        # Both views pass the online network; weights, gradients, two moments, and the target's weights.
        return _PARAMETERS[spec.encoder][0] * 20 + 2 * pixels * encoder * _WORKSPACE + _CONTEXT
    kept = frozen_unet if spec.weights == "frozen" else unet
    return _PARAMETERS[spec.encoder][1] * 16 + pixels * kept * _WORKSPACE + _CONTEXT


def _ahead(kind: str) -> int:
    queue = Queue.INTERACTIVE if kind == "cam" else Queue.DEVICE
    return Job.objects.filter(queue=queue, state__in=[State.QUEUED, *OWNED]).count()


def _alike(spec: Spec, project: Project) -> Job | None:
    """The newest finished run of the same kind and encoder, in this project, that was never interrupted."""
    runs = Job.objects.filter(project=project, kind=spec.kind, state=State.DONE, epoch=1, ended_at__gt=F("started_at"))
    encoder = getattr(spec, "encoder", None)
    return (runs.filter(spec__encoder=encoder) if encoder else runs).first()


def _seconds(spec: Spec, revision: Revision, run: Job) -> float | None:
    """Scaled from `run` by epochs, images and pixels."""
    its = Revision.objects.filter(pk=run.inputs.get("dataset", {}).get("revision")).first()
    if not its or not its.items_count or not run.ended_at or not run.started_at:
        return None
    then = _work(run.spec, its.items_count)
    return (run.ended_at - run.started_at).total_seconds() * _work(spec.model_dump(), revision.items_count) / then


def _work(spec: dict[str, Any], images: int) -> float:
    return float(spec.get("epochs", 1) * images * spec.get("image_size", 1) ** 2)


def _warnings(spec: Spec, revision: Revision, inputs: dict[str, Any]) -> list[str]:
    found = []
    name = revision.dataset.name
    if isinstance(spec, SegmentSpec):
        if not masked_images(revision):
            found.append(f"{name} has no masks at this revision, so there is nothing to learn from. Add masks first.")
        if spec.validation == "random":
            found.append(
                "Validation images are drawn at random: neighbouring slices of a stack then stand on both sides, and "
                "scores come out too high. The paper did so; choose the dataset's split for a fair score."
            )
        if "encoder" not in inputs and spec.weights == "frozen" and spec.initial == "random":
            found.append("Without a pretrained encoder there is nothing to freeze: it starts at random and is trained.")
    if isinstance(spec, PretrainSpec):
        if spec.views != "byol" and "colour" not in inputs:
            found.append("Grey against colour needs the colour planes of a colorize job. Colorize first.")
        if spec.batch_size > revision.items_count:
            found.append(f"A batch of {spec.batch_size:,} is more than the {revision.items_count:,} images of {name}.")
    return found


def masked_images(revision: Revision) -> int:
    """How many images of the revision have a mask."""
    return int(revision.summary.get("with_mask", 0))
