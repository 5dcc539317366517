"""What an intake job hands over at its end, and the same for a folder of this machine."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import zipfile
from functools import partial
from pathlib import Path

from django.db import transaction

from ml_core.data.archives.entries import is_noise
from ml_core.job.context import PlainContext
from ml_core.job.inputs import Inputs, Slot
from ml_core.job.reporting import EventFile
from ml_core.recipes import intake
from ml_core.specs import IntakeSpec
from webapp.datasets.intake.commit import commit
from webapp.datasets.models import Dataset, Upload
from webapp.datasets.services import dataset_create
from webapp.datasets.uploads.spool import spool_path
from webapp.jobs.models import Job
from webapp.projects.models import Project, User


def intake_commit(job: Job, folder: Path) -> None:
    """Takes what the intake job has left in `folder` into its dataset, in the transaction in which the job ends."""
    upload = Upload.objects.select_related("created_by").get(pk=uuid.UUID(job.inputs["upload"]["upload"]))
    report = commit(upload.dataset_id, folder, user=upload.created_by)
    Upload.objects.filter(pk=upload.pk).update(state=Upload.State.DONE, report=report)
    transaction.on_commit(partial(_clear, folder, spool_path(upload.pk)))


def _clear(folder: Path, spool: Path) -> None:
    """The files are in the storage now."""
    spool.unlink(missing_ok=True)
    for attempt in {folder, *folder.parent.glob("epoch-*")}:  # earlier ones hold links to the same files
        shutil.rmtree(attempt / "blobs", ignore_errors=True)


def dataset_from_folder(*, project: Project, name: str, folder: Path, user: User | None = None) -> Dataset:
    """A dataset of the images and masks in a folder of this machine: an upload's way in, without the queue."""
    dataset = dataset_create(project=project, user=user, name=name)
    with tempfile.TemporaryDirectory(prefix="cristae-intake-") as temporary:
        workdir = Path(temporary)
        archive = workdir / "upload.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                if not is_noise(path.relative_to(folder).as_posix()):
                    zipped.write(path, path.relative_to(folder).as_posix())
        events = EventFile(workdir)
        try:
            slots = {"upload": Slot("upload", {"path": str(archive)})}
            spec = IntakeSpec(filename=f"{name}.zip")
            inputs = Inputs(prepared=workdir, slots=slots)
            intake.run(PlainContext(spec=spec, inputs=inputs, folder=workdir, reporter=events))
        finally:
            events.close()
        commit(dataset.pk, workdir, user=user)
    return dataset
