"""Scripts change datasets and take revisions away: each change a revision, none on a dataset that has moved on."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from ml_core.data.manifests.manifest import EXPORTED
from tests.webapp.api.test_api import bearer, filled
from tests.webapp.datasets.intake.test_commit import newest, picture, upload
from webapp.datasets.models import Dataset
from webapp.datasets.services import dataset_create
from webapp.projects.models import Project, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return filled(project, alice, 12)


def send(client: Client, user: User, path: str, **body: Any) -> tuple[int, Any]:
    headers = bearer(user, may_write=True)
    answer = client.post(f"/api/v1/datasets/{path}", json.dumps(body), "application/json", headers=headers)
    return answer.status_code, answer.json()


def test_a_script_labels_splits_and_removes_and_each_is_a_revision(client: Client, bob: User, dataset: Dataset) -> None:
    first = f"{dataset.pk}/items"
    ids = list(dataset.all_items.order_by("position", "id").values_list("pk", flat=True))
    status, made = send(client, bob, f"{first}/label", base=1, items=ids[:2], label="fly")
    assert (status, made["number"], made["change"]) == (201, 2, "2 images labelled fly.")
    status, made = send(client, bob, f"{first}/split", base=2, filters={"label": ["fly"]}, split="validation")
    assert (status, made["summary"]["splits"]["validation"]) == (201, 2)
    status, made = send(client, bob, f"{first}/remove", base=3, filters={"split": "test"})
    assert (status, made["change"], made["items_count"]) == (201, "3 images left out.", 9)
    status, made = send(client, bob, f"{first}/pixel-size", base=4, filters={}, pixel_size_nm=4.5)
    assert made["summary"]["pixel_sizes"] == {"4.5": 9}
    assert newest(dataset).created_by == bob
    status, made = send(client, bob, f"revisions/{dataset.revisions.get(number=1).pk}/restore", base=5)
    assert (status, made["items_count"], made["manifest"]) == (201, 12, dataset.revisions.get(number=1).manifest)


def test_nothing_is_changed_where_the_dataset_has_moved_on(client: Client, bob: User, dataset: Dataset) -> None:
    send(client, bob, f"{dataset.pk}/items/label", base=1, filters={}, label="fly")
    status, answer = send(client, bob, f"{dataset.pk}/items/remove", base=1, filters={})
    assert status == 409
    assert "at revision 2 now" in answer["sentence"]
    assert newest(dataset).items_count == 12


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"items": [1], "filters": {}},
        {"filters": {"spilt": "test"}},
        {"filters": {}, "labels": ["worm"]},
        {"items": list(range(10_001))},
    ],
)
def test_a_choice_that_may_be_meant_otherwise_is_refused_and_nothing_is_removed(
    client: Client, bob: User, dataset: Dataset, chosen: dict[str, Any]
) -> None:
    status, _ = send(client, bob, f"{dataset.pk}/items/remove", base=1, **chosen)
    assert (status, newest(dataset).number) == (422, 1)


def test_a_split_can_be_looked_at_before_it_is_made(client: Client, bob: User, vera: User, dataset: Dataset) -> None:
    query = {"validation": 0.25, "test": 0.25, "seed": 1}
    plan = client.get(f"/api/v1/datasets/{dataset.pk}/split", query, headers=bearer(vera)).json()
    assert plan["sides"] == {"train": 6, "validation": 3, "test": 3, "": 0}
    assert plan["sentence"] == "Images at random, as each stands alone (seed 1)."
    status, made = send(client, bob, f"{dataset.pk}/split", base=1, **query)
    assert (status, made["summary"]["splits"]) == (201, {"test": 3, "train": 6, "validation": 3})
    status, answer = send(client, bob, f"{dataset.pk}/split", base=2, validation=0.9, test=0.9)
    assert (status, "together less than all" in answer["sentence"]) == (409, True)


def test_a_revision_leaves_as_the_zip_that_its_page_gives(
    client: Client, project: Project, alice: User, vera: User, tmp_path: Path
) -> None:
    made = dataset_create(project=project, user=alice, name="Lucchi")
    upload(made, {"a.png": picture(1)}, user=alice, folder=tmp_path)
    answer = client.get(f"/api/v1/datasets/revisions/{newest(made).pk}/export", headers=bearer(vera))
    assert answer["Content-Disposition"].startswith('attachment; filename="Lucchi-')
    content = b"".join(answer.streaming_content)  # type: ignore[arg-type]
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == [EXPORTED, "images/a.png"]
