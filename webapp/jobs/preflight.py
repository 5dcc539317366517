"""What can be said of a job before it is queued: memory, time, its place in the queue, and traps in its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ml_core.specs import PretrainSpec, SegmentSpec, Spec, differences
from ml_core.specs.segment import REDUCTIONS
from webapp.datasets.models import Revision
from webapp.jobs.forecast import alike, seconds_like
from webapp.jobs.models import OWNED, Job, Queue, State
from webapp.projects.models import Project

GIB = 2**30

# Counted with torch's saved-tensor hooks, float32, one image of 224 x 224: bytes kept for the backward pass per pixel
# of input, and parameters. `python -m ml_core describe` counts any specification anew; here no torch is loaded.
_ENCODERS = {
    "resnet18": (11.2e6, 443),
    "resnet50": (23.5e6, 1716),
    "attention26": (8.3e6, 1755),
    "attention50": (16.0e6, 3010),
}
# (encoder, decoder, its width): parameters, kept where all is trained, kept on a frozen encoder.
_SEGMENTERS = {
    ("resnet18", "unet", "full"): (14.3e6, 1291, 848),
    ("resnet18", "unet", "half"): (12.5e6, 923, 480),
    ("resnet18", "unetplusplus", "full"): (16.0e6, 3163, 2720),
    ("resnet18", "unetplusplus", "half"): (14.0e6, 2795, 2352),
    ("resnet18", "fpn", "full"): (13.0e6, 711, 298),
    ("resnet18", "fpn", "half"): (11.7e6, 583, 170),
    ("resnet50", "unet", "full"): (32.5e6, 2672, 956),
    ("resnet50", "unet", "half"): (27.7e6, 2304, 588),
    ("resnet50", "unetplusplus", "full"): (49.0e6, 6129, 4413),
    ("resnet50", "unetplusplus", "half"): (43.7e6, 5761, 4044),
    ("resnet50", "fpn", "full"): (26.1e6, 1984, 388),
    ("resnet50", "fpn", "half"): (24.4e6, 1856, 260),
    ("attention26", "unet", "full"): (17.3e6, 2710, 956),
    ("attention26", "unet", "half"): (12.5e6, 2342, 588),
    ("attention26", "unetplusplus", "full"): (33.8e6, 6167, 4413),
    ("attention26", "unetplusplus", "half"): (28.5e6, 5798, 4044),
    ("attention26", "fpn", "full"): (10.9e6, 2022, 388),
    ("attention26", "fpn", "half"): (9.2e6, 1894, 260),
    ("attention50", "unet", "full"): (25.0e6, 3965, 956),
    ("attention50", "unet", "half"): (20.2e6, 3597, 588),
    ("attention50", "unetplusplus", "full"): (41.5e6, 7422, 4413),
    ("attention50", "unetplusplus", "half"): (36.2e6, 7053, 4044),
    ("attention50", "fpn", "full"): (18.6e6, 3277, 388),
    ("attention50", "fpn", "half"): (16.9e6, 3149, 260),
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
    found = Preflight(changed=differences(spec), memory=memory_of(spec), ahead=_ahead(spec.kind))
    if revision:
        found.judged_by = alike(spec, project)
        if found.judged_by:
            found.seconds = seconds_like(spec, revision, found.judged_by)
        found.warnings = _warnings(spec, revision, inputs)
    return found


def memory_of(spec: Spec) -> float | None:
    """Upper estimate for float32; half precision takes about half of the part that grows with the batch."""
    if isinstance(spec, PretrainSpec) and spec.encoder in _ENCODERS:
        parameters, kept = _ENCODERS[spec.encoder]
        # Both views pass the online network; weights, gradients, two moments, and the target's weights.
        return parameters * 20 + 2 * spec.batch_size * spec.image_size**2 * kept * _WORKSPACE + _CONTEXT
    if isinstance(spec, SegmentSpec) and (network := (spec.encoder, spec.decoder, spec.decoder_width)) in _SEGMENTERS:
        parameters, trained, frozen = _SEGMENTERS[network]
        pixels = spec.batch_size * (spec.image_size / REDUCTIONS[spec.resolution]) ** 2
        learns, kept = parameters, trained
        if spec.weights == "frozen":
            learns, kept = parameters - _ENCODERS[spec.encoder][0], frozen
        return parameters * 4 + learns * 12 + pixels * kept * _WORKSPACE + _CONTEXT
    return None


def _ahead(kind: str) -> int:
    queue = Queue.INTERACTIVE if kind == "cam" else Queue.DEVICE
    return Job.objects.filter(queue=queue, state__in=[State.QUEUED, *OWNED]).count()


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
