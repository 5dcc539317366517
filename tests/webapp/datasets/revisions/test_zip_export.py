"""A revision leaves as a zip, in parts, whole and always the same."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient

from ml_core.data.manifests.manifest import EXPORTED
from ml_core.data.naming.pairing import DEFAULT_LAYER
from tests.webapp.datasets.intake.test_commit import encoded, mask, newest, picture, upload
from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from webapp.datasets import services
from webapp.datasets.models import Dataset
from webapp.datasets.revisions import zip_export
from webapp.projects.models import Project, User
from webapp.streaming import PART

__all__ = ["seen_by"]

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi: 5/nm")


def test_the_zip_holds_every_file_as_it_came_beside_the_manifest(dataset: Dataset, alice: User, tmp_path: Path) -> None:
    stack = np.stack([picture(n) for n in range(5)]).astype(np.uint16)
    files: dict[str, object] = {"images/a.png": picture(1), "masks/a.png": mask(1), "stack.tif": stack}
    upload(dataset, files, user=alice, folder=tmp_path)
    revision = newest(dataset)
    content = b"".join(zip_export.zipped(revision))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            EXPORTED,
            "images/images/a.png",
            f"masks/{DEFAULT_LAYER}/masks/a.png",
            "images/stack.tif",
        ]
        assert hashlib.sha256(archive.read(EXPORTED)).hexdigest() == revision.manifest
        assert archive.read("images/stack.tif") == encoded(stack, "stack.tif")
        items = [json.loads(line) for line in archive.read(EXPORTED).splitlines()[1:]]
        held = {hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    assert {item["image"]["sha256"] for item in items} <= held
    assert b"".join(zip_export.zipped(revision)) == content
    assert zip_export.filename_of(revision) == f"Lucchi_ 5_nm-{revision.manifest[:4]}.zip"


def test_two_files_of_one_name_both_go_in(dataset: Dataset, alice: User, tmp_path: Path) -> None:
    upload(dataset, {"a.png": picture(1), "b.png": picture(2)}, user=alice, folder=tmp_path)
    for item in newest(dataset).items:  # Two masks that were called the same, in revisions of their own once.
        drawn = {"sha256": item.image, "page": 0, "name": "m.png", "rule": "numbers", "values": {}}
        dataset.all_items.filter(pk=item.pk).update(masks={"mitochondria": drawn})
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_export.zipped(newest(dataset))))) as archive:
        names = archive.namelist()
    assert len(set(names)) == len(names) == 5
    assert sum(name.startswith("masks/mitochondria/m") for name in names) == 2


def test_only_who_sees_the_dataset_can_have_it(
    seen_by: Seen, dataset: Dataset, alice: User, vera: User, charlie: User, tmp_path: Path
) -> None:
    upload(dataset, {"a.png": picture(1)}, user=alice, folder=tmp_path)
    address = f"/revisions/{newest(dataset).pk}/export.zip"
    assert seen_by(charlie).get(address).status_code == 404
    answer = seen_by(vera).get(address)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/zip"
    assert zipfile.is_zipfile(io.BytesIO(b"".join(answer.streaming_content)))  # type: ignore[arg-type]


@pytest.mark.django_db(transaction=True)
async def test_the_zip_leaves_the_server_in_parts(dataset: Dataset, alice: User, tmp_path: Path) -> None:
    noise = {f"{n}.png": picture(n, size=700) for n in range(4)}
    await sync_to_async(upload)(dataset, noise, user=alice, folder=tmp_path)
    client = AsyncClient()
    await sync_to_async(client.force_login)(alice)
    revision = await sync_to_async(newest)(dataset)
    answer = await client.get(f"/revisions/{revision.pk}/export.zip")
    parts = [part async for part in answer.streaming_content]
    assert len(parts) >= 5
    assert max(map(len, parts)) < 2 * PART
    assert zipfile.ZipFile(io.BytesIO(b"".join(parts))).testzip() is None
    await sync_to_async(connections.close_all)()  # The request's own connection would hold the test database.
