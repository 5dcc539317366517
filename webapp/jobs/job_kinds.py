"""What the queue must know of each kind of job: where it runs, how its trainer starts, what happens when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_core.specs import SPECS, Spec
from webapp.jobs.inputs import revision_in
from webapp.jobs.models import Artifact, Job, Queue


def _finish_nothing(job: Job, folder: Path) -> None:
    pass


def _finish_intake(job: Job, folder: Path) -> None:
    from webapp.datasets.services import intake_commit  # that module submits jobs, so it imports this one first

    intake_commit(job, folder)


def _finish_encoder(job: Job, folder: Path) -> None:
    from webapp.encoders.services import encoder_from_artifact

    encoder_from_artifact(Artifact.objects.filter(job=job, kind="encoder").latest("pk"))


@dataclass(frozen=True)
class Kind:
    """`finish` runs in the transaction in which the job becomes done; `folder` is the attempt's.

    `forkable`: the trainer may be forked from a process that has loaded torch. Not for intake, which loads none and
    runs under a limit of address space.
    """

    queue: Queue
    forkable: bool = True
    finish: Callable[[Job, Path], None] = _finish_nothing


KINDS: dict[str, Kind] = {
    # A kind of job that only has its specification and its recipe trains on a device; its encoder enters the registry.
    **{
        kind: Kind(Queue.DEVICE, finish=_finish_encoder if "encoder" in spec.makes else _finish_nothing)
        for kind, spec in SPECS.items()
    },
    "cam": Kind(Queue.INTERACTIVE),
    "intake": Kind(Queue.IO, forkable=False, finish=_finish_intake),
}


def default_name(spec: Spec, inputs: dict[str, Any]) -> str:
    """A name for a job that was given none: what it does, and to which dataset or file."""
    if filename := getattr(spec, "filename", ""):
        return f"{spec.verb} {filename}"[:200]
    revision = revision_in(inputs)
    return f"{spec.title} {revision.dataset.name}"[:200] if revision else spec.title
