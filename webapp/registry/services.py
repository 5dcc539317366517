"""Adding pretrained weights to the registry."""

from __future__ import annotations

from webapp.jobs.models import Artifact
from webapp.registry.models import Encoder, Origin


def encoder_from_artifact(artifact: Artifact) -> Encoder:
    """The registry's entry for an encoder that a job produced; a second call returns the same entry.

    Raises ValueError if the artifact's facts lack how images must be prepared for it: such weights would be used
    wrongly later.
    """
    facts = artifact.facts
    missing = [name for name in ("architecture", "channels", "mean", "deviation") if name not in facts]
    if missing:
        raise ValueError(f"The encoder of {artifact.job} does not record its {' and '.join(missing)}. Train it again.")
    origin = facts.get("origin", Origin.BYOL)
    encoder, _ = Encoder.objects.get_or_create(
        artifact=artifact,
        defaults={
            "project": artifact.job.project,
            "name": artifact.job.name,
            "origin": origin if origin in Origin.values else Origin.IMPORTED,
            "architecture": facts["architecture"],
            "channels": facts["channels"],
            "mean": facts["mean"],
            "deviation": facts["deviation"],
            "sha256": artifact.sha256,
        },
    )
    return encoder
