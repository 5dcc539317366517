"""The REST API: what scripts may see and do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from webapp.api.models import ApiToken
from webapp.api.services import token_create
from webapp.datasets.models import Dataset, Item
from webapp.datasets.revisions.manifests import revision_create
from webapp.projects.models import Project, User


def bearer(user: User, *, may_write: bool = False) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_create(user, name='test', may_write=may_write)}"}


def test_a_script_without_a_token_is_told_so_and_not_sent_to_a_page(client: Client, db: None) -> None:
    assert client.get("/api/v1/projects").status_code == 401


def test_a_script_sees_the_projects_of_its_owner_only(
    client: Client, vera: User, charlie: User, project: Project
) -> None:
    assert client.get("/api/v1/projects", headers=bearer(vera)).json() == [
        {"id": project.pk, "name": "Mito", "description": ""}
    ]
    assert client.get("/api/v1/projects", headers=bearer(charlie)).json() == []
    dataset = Dataset.objects.create(project=project, name="Lucchi")
    assert client.get(f"/api/v1/datasets/{dataset.pk}", headers=bearer(vera)).json()["name"] == "Lucchi"
    assert client.get(f"/api/v1/datasets/{dataset.pk}", headers=bearer(charlie)).status_code == 404


def test_the_token_itself_is_not_kept(vera: User) -> None:
    token = token_create(vera, name="test", may_write=False)
    assert token not in ApiToken.objects.get().token_hash


def test_an_expired_token_or_an_inactive_owner_is_refused(client: Client, vera: User) -> None:
    headers = bearer(vera)
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get("/api/v1/projects", headers=headers).status_code == 401
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(days=1))
    assert client.get("/api/v1/projects", headers=headers).status_code == 200
    User.objects.update(is_active=False)
    assert client.get("/api/v1/projects", headers=headers).status_code == 401


def submission(project: Project, **spec: object) -> dict[str, object]:
    return {"project": project.pk, "spec": {"kind": "colorize", **spec}, "inputs": {}}


@pytest.mark.parametrize("who", ["bob", "vera", "charlie"])
def test_only_an_editor_with_a_writing_token_submits(
    client: Client, who: str, project: Project, request: pytest.FixtureRequest
) -> None:
    user = request.getfixturevalue(who)
    wanted = submission(project, image_size=33)
    reading = client.post("/api/v1/jobs", wanted, "application/json", headers=bearer(user))
    assert reading.status_code == 403
    writing = client.post("/api/v1/jobs", wanted, "application/json", headers=bearer(user, may_write=True))
    assert writing.status_code == {"bob": 422, "vera": 403, "charlie": 404}[who]


def test_a_bad_field_is_refused_with_the_sentence_of_the_specification(
    client: Client, bob: User, project: Project
) -> None:
    answer = client.post(
        "/api/v1/jobs", submission(project, image_size=33), "application/json", headers=bearer(bob, may_write=True)
    )
    assert {"field": "image_size", "sentence": "A multiple of 8 from 32 to 1,024 px."} in answer.json()


def test_a_session_needs_the_csrf_token(bob: User, project: Project) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(bob)
    assert strict.post("/api/v1/jobs", submission(project), "application/json").status_code in {401, 403}
    assert strict.get("/api/v1/projects").status_code == 200


def filled(project: Project, user: User, count: int) -> Dataset:
    """A dataset of `count` rows without files: one label in two, every third a test image."""
    dataset = Dataset.objects.create(project=project, name="Lucchi")
    Item.objects.bulk_create(
        Item(
            dataset=dataset,
            added_in=1,
            position=n // 3,
            name=f"slice_{n}.png",
            image=f"{n:064x}",
            width=8,
            height=8,
            dtype="uint8",
            low=0,
            high=255,
            thumbnail="",
            label="liver" if n % 2 else "worm",
            split="train" if n % 3 else "test",
        )
        for n in range(count)
    )
    revision_create(dataset, number=1, change="All added.", user=user)
    return dataset


def test_a_script_pages_through_the_items_that_match(client: Client, vera: User, project: Project) -> None:
    dataset = filled(project, vera, 30)
    address, headers = f"/api/v1/datasets/{dataset.pk}/items", bearer(vera)
    names, after = [], ""
    while after is not None:
        query = {"label": ["worm"], "split": "train", "limit": 3, "after": after}
        answer = client.get(address, query, headers=headers).json()
        assert (answer["total"], answer["more_than_total"], answer["revision"]) == (10, False, 1)
        names += [item["name"] for item in answer["items"]]
        after = answer["next"]
    assert names == [f"slice_{n}.png" for n in range(30) if n % 2 == 0 and n % 3]
    assert client.get(address, {"label": ["worm", "liver"]}, headers=headers).json()["total"] == 30
    assert client.get(address, {"revision": 2}, headers=headers).status_code == 404


def test_items_are_shown_to_members_only(client: Client, vera: User, charlie: User, project: Project) -> None:
    dataset = filled(project, vera, 2)
    for address in (f"{dataset.pk}/items", f"items/{dataset.all_items.first().pk}"):  # type: ignore[union-attr]
        assert client.get(f"/api/v1/datasets/{address}", headers=bearer(vera)).status_code == 200
        assert client.get(f"/api/v1/datasets/{address}", headers=bearer(charlie)).status_code == 404
        assert client.get(f"/api/v1/datasets/{address}").status_code == 401
