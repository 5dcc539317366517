"""R7: a disk that is full where results are kept is said in one sentence, and once there is space the job goes through.

On real disks of a few kilobytes, in memory.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from pytest_django import Settings

from tests.counting import Counting, pretrain
from tests.fuzz.corpus import picture, zipped
from webapp.datasets import services
from webapp.datasets.models import Dataset, Item, Revision, Upload
from webapp.datasets.uploads import services as uploads_services
from webapp.datasets.uploads import spool
from webapp.jobs.models import Artifact, Job, State
from webapp.jobs.services import job_retry
from webapp.projects.models import Project, User
from worker.tasks import work_off

pytestmark = pytest.mark.slow

SENTENCE = "The disk of {data} is full. Free some space, then start it again."


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A disk without a byte left lies over `folder` until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("A full disk is made with `mount -t tmpfs`, which this machine does not allow.")
    try:
        (folder / "filling").write_bytes(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_full_when_an_artifact_is_kept(counting: Counting, revision: Revision, alice: User) -> None:
    job = pretrain(revision)
    weights = hashlib.sha256(f"weights of job {job.pk}".encode()).hexdigest()
    with full_disk(Path(default_storage.path(weights)).parent):
        work_off("device")
    failed = Job.objects.get(pk=job.pk)
    assert (failed.state, failed.reason) == (State.FAILED, SENTENCE.format(data=settings.DATA))
    assert not Artifact.objects.exists()
    assert job_retry(failed, user=alice)
    work_off("device")
    assert Job.objects.get(pk=job.pk).state == State.DONE
    assert default_storage.exists(weights)


def test_a_disk_that_is_full_when_an_upload_is_entered(
    transactional_db: None, project: Project, alice: User, settings: Settings
) -> None:
    settings.TRAINER = "process"
    dataset = services.dataset_create(project=project, user=alice, name="Lucchi")
    noise = np.random.default_rng(5).integers(0, 255, (64, 64), dtype=np.uint8)
    job = arrived(dataset, zipped({"slice.png": picture(noise, "PNG")}), user=alice)
    with full_disk(Path(settings.BLOBS)):
        work_off("io")
    failed = Job.objects.get(pk=job.pk)
    assert (failed.state, failed.reason) == (State.FAILED, SENTENCE.format(data=settings.DATA))
    assert not Item.objects.exists(), "no half dataset"
    assert job_retry(failed, user=alice)
    work_off("io")
    assert Job.objects.get(pk=job.pk).state == State.DONE
    assert Item.objects.get().name == "slice.png"


def arrived(dataset: Dataset, content: bytes, *, user: User) -> Job:
    """The job that reads an upload whose last byte has come."""
    row = uploads_services.upload_create(dataset=dataset, user=user, filename="upload.zip", length=len(content))
    spool.spool_path(row.pk).write_bytes(content)
    Upload.objects.filter(pk=row.pk).update(offset=row.length)
    job = uploads_services.upload_finished(row.pk)
    assert job is not None
    return job
