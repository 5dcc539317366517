"""A project with one of everything that an address can name, for the matrix of rights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone
from safetensors.numpy import save

from tests.counting import pretrain
from tests.fuzz.corpus import picture
from tests.webapp.matrix import BODIES, FORMS, HEADERS, SECRET, TUS, Row
from webapp.api.services import token_create
from webapp.datasets.models import Dataset, Item
from webapp.datasets.pictures.pyramids import WHOLE_TO
from webapp.datasets.revisions.manifests import revision_create
from webapp.datasets.uploads.services import upload_create
from webapp.experiments.models import Experiment
from webapp.jobs.models import Artifact, Event, Job
from webapp.projects.models import Project, User
from webapp.projects.services import signin_link_create


@dataclass(frozen=True)
class House:
    """A project with one of everything, and who asks for it."""

    handles: dict[str, Any]
    people: dict[str, User | None]

    def address(self, row: Row) -> str:
        return row.path.format(**self.handles)

    def ask(self, row: Row, client: Client, *, headers: dict[str, str] | None = None) -> Any:
        """The answer to what the row says, from `client`."""
        given = TUS | HEADERS.get(str(row), {}) | (headers or {})
        if row.of_api:
            body = json.dumps(self._body(row)) if row.changes else ""
            return client.generic(row.method, self.address(row), body, "application/json", headers=given)
        form = {key: str(value).format(**self.handles) for key, value in FORMS.get(str(row), {}).items()}
        if row.method in ("GET", "POST"):
            return getattr(client, row.method.lower())(self.address(row), form, headers=given)
        return client.generic(row.method, self.address(row), headers=given)

    def _body(self, row: Row) -> dict[str, Any]:
        if row.path != "/api/v1/jobs":
            return BODIES.get(str(row), {})
        inputs = {"dataset": {"revision": self.handles["revision_id"]}}
        spec = {"kind": "pretrain", "preset": "own", "views": "byol"}
        return {"project": self.handles["project_id"], "spec": spec, "inputs": inputs}


def bearer(user: User, *, may_write: bool) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_create(user, name='matrix', may_write=may_write)}"}


def furnish(project: Project, people: dict[str, User | None]) -> House:
    """One of everything that an address can name, with real files where the address hands one out."""
    owner = people["owner"]
    assert owner is not None
    Project.objects.filter(pk=project.pk).update(name=f"{SECRET} project")
    dataset = Dataset.objects.create(project=project, name=f"{SECRET} dataset")
    items = [_item(dataset, number) for number in range(6)]
    revision = revision_create(dataset, number=1, change="All added.", user=owner)
    experiment = Experiment.objects.create(project=project, name=f"{SECRET} experiment", protocol="pipeline")
    pretrain(revision, user=owner, name=f"{SECRET} first")
    job = pretrain(revision, user=owner, name=f"{SECRET} job")
    upload = upload_create(dataset=dataset, user=owner, filename=f"{SECRET}.zip", length=10)
    handles = {
        "token": signin_link_create(owner).rstrip("/").rpartition("/")[2],
        "ticket": "0" * 32,
        "project_id": project.pk,
        "dataset_id": dataset.pk,
        "revision_id": revision.pk,
        "item_id": items[0].pk,
        "upload_id": upload.pk,
        "experiment_id": experiment.pk,
        "job_id": job.pk,
        "artifact_id": _colours(job, manifest=revision.manifest, count=len(items)).pk,
        "name": "colour.safetensors",
        "layer": "cell",
        "action": "cancel",
        "level": 0,
        "column": 0,
        "row": 0,
    }
    return House(handles, people)


def _item(dataset: Dataset, number: int) -> Item:
    """A masked image; the first is so wide that it is shown by tiles."""
    width = WHOLE_TO + 8 if number == 0 else 24
    pixels = np.full((16, width), 60 + number, np.uint8)
    image = default_storage.put_bytes(picture(pixels, "PNG"))  # type: ignore[attr-defined]
    mask = default_storage.put_bytes(picture(pixels // pixels, "PNG"))  # type: ignore[attr-defined]
    return Item.objects.create(
        dataset=dataset,
        added_in=1,
        position=number,
        name=f"{SECRET}_{number}.png",
        image=image,
        width=width,
        height=16,
        dtype="uint8",
        low=0,
        high=255,
        thumbnail=image,
        masks={"cell": {"sha256": mask, "page": 0, "name": "mask.png", "rule": "name", "values": {"1": 16 * width}}},
        split="train" if number % 3 else "test",
    )


def _colours(job: Job, *, manifest: str, count: int) -> Artifact:
    content = save({"ab": np.full((count, 2, 8, 8), 140, np.uint8)})
    event = Event.objects.create(job=job, epoch=1, kind="artifact", time=timezone.now())
    return Artifact.objects.create(
        job=job,
        event=event,
        kind="colour",
        name="colour.safetensors",
        sha256=default_storage.put_bytes(content),  # type: ignore[attr-defined]
        size=len(content),
        epoch=1,
        media_type="application/octet-stream",
        facts={"origin": "structured", "size": 8, "manifest": manifest},
    )
