"""What is done with a finished job's results, in the transaction that sets it to done: by kind, or by artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ml_core.specs import SPECS
from webapp.datasets.intake.services import intake_commit
from webapp.jobs.models import Artifact, Job
from webapp.registry.services import encoder_from_artifact

Finisher = Callable[[Job, Path], None]
"""Takes the job and its attempt's folder."""


def _register_encoder(job: Job, folder: Path) -> None:
    encoder_from_artifact(Artifact.objects.filter(job=job, kind="encoder").latest("pk"))


def _nothing(job: Job, folder: Path) -> None:
    pass


_OF_KIND: dict[str, Finisher] = {"intake": intake_commit}
_OF_ARTIFACT: dict[str, Finisher] = {"encoder": _register_encoder}


def finisher_of(kind: str) -> Finisher:
    if kind in _OF_KIND:
        return _OF_KIND[kind]
    return next((_OF_ARTIFACT[made] for made in SPECS[kind].makes if made in _OF_ARTIFACT), _nothing)
