"""Properties of each kind of job: its queue, the command of its trainer, whether the trainer may be forked."""

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
    # The default, for kinds that need nothing but a specification and a recipe: they run on a device.
    **{kind: Kind(Queue.DEVICE) for kind in SPECS},
    "cam": Kind(Queue.INTERACTIVE),
    "intake": Kind(Queue.IO, forkable=False),
}


def default_name(spec: Spec, inputs: dict[str, Any]) -> str:
    """The default name of a job: what it does, and the dataset or file that it uses."""
    if filename := getattr(spec, "filename", ""):
        return f"{spec.verb} {filename}"[:200]
    revision = revision_in(inputs)
    return f"{spec.title} {revision.dataset.name}"[:200] if revision else spec.title
