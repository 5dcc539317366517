"""Files that jobs made, in the storage and in the database."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from django.conf import settings

from tests.webapp.conftest import EventMaker
from webapp.jobs.models import Artifact, Job


def keep(
    job: Job, say: EventMaker, content: bytes, *, name: str, media_type: str, kind: str = "table", **facts: Any
) -> Artifact:
    sha256 = hashlib.sha256(content).hexdigest()
    path = Path(settings.BLOBS) / sha256[:2] / sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Artifact.objects.create(
        job=job,
        event=say(job, "artifact", data={"artifact": kind, "name": name, "step": None, "facts": facts}),
        kind=kind,
        name=name,
        sha256=sha256,
        size=len(content),
        media_type=media_type,
        epoch=1,
        facts=facts,
    )
