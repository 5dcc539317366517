"""Uploads from their beginning to their intake: created, finished, given up, swept."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from ml_core.data.archives.entries import name_fault
from ml_core.specs import IntakeSpec
from webapp.datasets.exceptions import UploadRefused
from webapp.datasets.models import Dataset, Upload
from webapp.datasets.uploads.spool import spool_path
from webapp.jobs.models import Job, State
from webapp.jobs.services import job_submit
from webapp.projects.models import Project, User

UPLOAD_LIFE = datetime.timedelta(days=7)
"""An upload without progress for this long is discarded."""


DISK_RESERVE = 2 * 10**9
"""Stays free for the database and for checkpoints."""


def upload_create(*, dataset: Dataset, user: User | None, filename: str, length: int) -> Upload:
    """Makes room for a file of `length` bytes. `filename` may hold folders (a/b.png). Raises UploadRefused."""
    uploads_sweep()
    filename = filename.strip().lstrip("/")
    if (fault := name_fault(filename)) is not None:
        raise UploadRefused(f"{filename[:100]!r} cannot be uploaded. {fault}", status=400)
    if length < 1:
        raise UploadRefused(f"{filename} was left out: the file is empty (0 bytes). Export it again.", status=400)
    with transaction.atomic():
        # Several are begun at once, and all of them together must stay under the quota.
        Project.objects.select_for_update().get(pk=dataset.project_id)
        _check_room(dataset, filename=filename, length=length)
        upload = Upload.objects.create(
            dataset=dataset,
            created_by=user,
            filename=filename,
            length=length,
            expires_at=timezone.now() + UPLOAD_LIFE,
        )
    spool_path(upload.pk).parent.mkdir(parents=True, exist_ok=True)
    spool_path(upload.pk).touch()
    return upload


def _check_room(dataset: Dataset, *, filename: str, length: int) -> None:
    Path(settings.DATA).mkdir(parents=True, exist_ok=True)
    coming = Upload.objects.filter(state=Upload.State.RECEIVING).aggregate(n=Sum("length"), here=Sum("offset"))
    free = shutil.disk_usage(settings.DATA).free - (coming["n"] or 0) + (coming["here"] or 0) - DISK_RESERVE
    if length > free:
        raise UploadRefused(
            f"{filename} is {length / 1e9:.1f} GB, and the server's disk has room for {max(0, free) / 1e9:.1f} GB. "
            "Free some space on the server, or upload a part.",
            status=507,
        )
    used = Upload.objects.filter(dataset__project=dataset.project_id)
    kept = used.exclude(state__in=[Upload.State.ABANDONED, Upload.State.FAILED])
    total = kept.aggregate(n=Sum("length"))["n"] or 0
    if total + length > settings.PROJECT_QUOTA:
        raise UploadRefused(
            f"{filename} would bring the project above its {settings.PROJECT_QUOTA / 1e9:,.0f} GB. Ask the server's "
            "administrator to raise CRISTAE_PROJECT_QUOTA_GB.",
            status=413,
        )


@transaction.atomic
def upload_finished(upload_id: uuid.UUID) -> Job | None:
    """Queues the intake of an upload that is whole. None, and nothing happens, where that was done before."""
    upload = Upload.objects.select_for_update().get(pk=upload_id)
    if upload.state != Upload.State.RECEIVING or upload.offset != upload.length:
        return None
    job = job_submit(
        project=upload.dataset.project,
        user=upload.created_by,
        spec=IntakeSpec(filename=upload.filename),
        inputs={"upload": {"upload": str(upload.pk)}},
    )
    Upload.objects.filter(pk=upload.pk).update(state=Upload.State.READING, job=job)
    return job


def upload_terminate(upload: Upload) -> bool:
    """Gives up an upload that is still coming in and frees its space. False once it is whole."""
    given_up = Upload.objects.filter(pk=upload.pk, state=Upload.State.RECEIVING).update(state=Upload.State.ABANDONED)
    if given_up:
        spool_path(upload.pk).unlink(missing_ok=True)
    return bool(given_up)


def uploads_sweep() -> int:
    """Gives up what has stood still for too long, and what could not be read; returns how many.

    The bytes go only where this very call has changed the row: between the look and the change the rest of a file may
    have come, or somebody may have begun its reading again.
    """
    ended = {
        Upload.State.RECEIVING: (Upload.State.ABANDONED, Q()),
        Upload.State.READING: (Upload.State.FAILED, Q(job__state__in=[State.FAILED, State.CANCELLED])),
    }
    count = 0
    for state, (becomes, only) in ended.items():
        late = Upload.objects.filter(only, state=state, expires_at__lt=timezone.now())
        for pk in list(late.values_list("pk", flat=True)):
            if Upload.objects.filter(only, pk=pk, state=state, expires_at__lt=timezone.now()).update(state=becomes):
                spool_path(pk).unlink(missing_ok=True)
                count += 1
    _sweep_spool()
    return count


def _sweep_spool() -> None:
    """Removes files of uploads that are gone with their dataset, once they are old: of a young one the row may yet
    be committed."""
    spool = Path(settings.SPOOL)
    if not spool.is_dir():
        return
    before = time.time() - UPLOAD_LIFE.total_seconds()
    with os.scandir(spool) as entries:
        old = [entry.name for entry in entries if entry.stat().st_mtime < before]
    known = {str(pk) for pk in Upload.objects.filter(pk__in=_uuids(old)).values_list("pk", flat=True)}
    for name in {str(pk) for pk in _uuids(old)} - known:
        (spool / name).unlink(missing_ok=True)


def _uuids(names: Iterable[str]) -> list[uuid.UUID]:
    found = []
    for name in names:
        with contextlib.suppress(ValueError):  # Not ours: left alone.
            found.append(uuid.UUID(name))
    return found


def upload_state(upload: Upload) -> dict[str, object]:
    """What a page shows of an upload: how much is here, which job reads it, and the report once it has."""
    state, reason = str(upload.state), ""
    job = upload.job
    if state == Upload.State.READING and job is not None and job.state in (State.FAILED, State.CANCELLED):
        state, reason = "failed", job.reason
    return {
        "id": str(upload.pk),
        "filename": upload.filename,
        "length": upload.length,
        "offset": upload.offset,
        "state": state,
        "reason": reason,
        "job": upload.job_id,
        "progress": job.progress if job is not None else {},
        "report": {key: value for key, value in upload.report.items() if key != "waiting_masks"},
    }
