"""What the queue must know of each kind of job: where it runs, how its trainer starts, whether it may be forked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_core.specs import SPECS, Spec
from webapp.jobs.inputs import revision_in
from webapp.jobs.models import Queue


@dataclass(frozen=True)
class Kind:
    """`forkable`: the trainer may be forked from a process that has loaded torch. Not for intake, which loads none and
    runs under a limit of address space.
    """

    queue: Queue
    forkable: bool = True


KINDS: dict[str, Kind] = {
    # A kind of job that only has its specification and its recipe trains on a device.
    **{kind: Kind(Queue.DEVICE) for kind in SPECS},
    "cam": Kind(Queue.INTERACTIVE),
    "intake": Kind(Queue.IO, forkable=False),
}


def default_name(spec: Spec, inputs: dict[str, Any]) -> str:
    """A name for a job that was given none: what it does, and to which dataset or file."""
    if filename := getattr(spec, "filename", ""):
        return f"{spec.verb} {filename}"[:200]
    revision = revision_in(inputs)
    return f"{spec.title} {revision.dataset.name}"[:200] if revision else spec.title
