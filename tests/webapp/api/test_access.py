"""Who may ask what of the API: a matrix of every route, made from the resolver. A route without a row fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLResolver

from tests.counting import make_revision, pretrain
from tests.webapp.api.test_api import bearer, filled
from webapp.api.urls import api, urlpatterns
from webapp.datasets.models import Dataset
from webapp.jobs.models import Job
from webapp.projects.models import Project, User

pytestmark = pytest.mark.django_db

SEEN = {"owner": 200, "editor": 200, "viewer": 200, "stranger": 404}
LISTED = dict.fromkeys(SEEN, 200)
"""A stranger gets a list too, of what is the stranger's own."""


def changed(status: int) -> dict[str, int]:
    """What only who may edit can do, and the answer where it is done."""
    return {"owner": status, "editor": status, "viewer": 403, "stranger": 404}


MATRIX: dict[str, tuple[dict[str, int], dict[str, Any] | None]] = {
    "GET projects": (LISTED, None),
    "GET datasets": (LISTED, None),
    "GET datasets/{dataset_id}": (SEEN, None),
    "GET datasets/{dataset_id}/items": (SEEN, None),
    "GET datasets/items/{item_id}": (SEEN, None),
    "GET datasets/{dataset_id}/split": (SEEN, None),
    "GET datasets/revisions/{revision_id}/export": (SEEN, None),
    "POST datasets/{dataset_id}/items/label": (changed(201), {"filters": {}, "label": "fly"}),
    "POST datasets/{dataset_id}/items/split": (changed(201), {"filters": {}, "split": "validation"}),
    "POST datasets/{dataset_id}/items/pixel-size": (changed(201), {"filters": {}, "pixel_size_nm": 5}),
    "POST datasets/{dataset_id}/items/invert": (changed(201), {"filters": {}}),
    "POST datasets/{dataset_id}/items/remove": (changed(201), {"filters": {"split": "test"}}),
    "POST datasets/{dataset_id}/split": (changed(201), {"validation": 0.5, "test": 0}),
    "POST datasets/revisions/{revision_id}/restore": (changed(409), {}),
    "GET jobs": (LISTED, None),
    "POST jobs": (changed(422), {"spec": {"kind": "colorize", "image_size": 33}}),
    "GET jobs/{job_id}": (SEEN, None),
    "GET jobs/{job_id}/events": (SEEN, None),
    "POST jobs/{job_id}/move": (changed(409), {"to": "up"}),
    "POST jobs/{job_id}/{action}": (changed(200), None),
}
OPEN = {"", "openapi.json"}
"""The description of the API says nothing of anybody's data."""


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def paths() -> set[str]:
    """The path of each route that the resolver knows below /api/v1/."""

    def walk(patterns: list[Any]) -> Iterator[str]:
        for one in patterns:
            if isinstance(one, URLResolver):
                yield from walk(one.url_patterns)
            else:
                yield str(one.pattern).replace("<", "{").replace(">", "}").replace("int:", "")

    return {path for path in walk(urlpatterns) if path not in OPEN}


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return filled(project, alice, 6)


@pytest.fixture
def job(project: Project, alice: User) -> Job:
    return pretrain(make_revision(project, "Trained on"), user=alice)


def test_every_path_of_the_resolver_has_a_row_and_no_row_is_of_one_that_has_gone() -> None:
    assert paths() == {row.split()[1] for row in MATRIX}


def test_a_path_answers_to_the_methods_of_its_rows_and_to_no_other(client: Client, alice: User) -> None:
    headers = bearer(alice, may_write=True)
    for path in paths():
        address = "/api/v1/" + path.format(dataset_id=0, revision_id=0, item_id=0, job_id=0, action="cancel")
        for method in METHODS:
            allowed = client.generic(method, address, "{}", "application/json", headers=headers).status_code != 405
            assert allowed == (f"{method} {path}" in MATRIX), f"{method} {path}"


@pytest.mark.parametrize("row", MATRIX)
@pytest.mark.parametrize("who", ["owner", "editor", "viewer", "stranger", "anonymous"])
def test_each_gets_what_is_theirs(
    client: Client, request: pytest.FixtureRequest, project: Project, dataset: Dataset, row: str, who: str
) -> None:
    method, path = row.split()
    answers, body = MATRIX[row]
    if "{job_id}" in path:
        path = path.format(job_id=request.getfixturevalue("job").pk, action="cancel")
    revision = dataset.revisions.get()
    first = dataset.all_items.earliest("pk")
    address = "/api/v1/" + path.format(dataset_id=dataset.pk, revision_id=revision.pk, item_id=first.pk)
    content = None if body is None else {"base": 1, **body} if path != "jobs" else {"project": project.pk, **body}
    name = {"owner": "alice", "editor": "bob", "viewer": "vera", "stranger": "charlie"}.get(who)

    def asked(**given: Any) -> int:
        answer = client.generic(method, address, json.dumps(content) if content else "", "application/json", **given)
        if name == "charlie" and answer.status_code == 200:
            assert answer.json() == [], "a stranger's list is empty"
        return answer.status_code

    if name is None:
        assert asked() == 401
        return
    user = request.getfixturevalue(name)
    if method != "GET":
        assert asked(headers=bearer(user)) == 403, "a token that may only read changes nothing"
        assert dataset.revisions.count() == 1
    assert asked(headers=bearer(user, may_write=True)) == answers[who]
    if answers[who] >= 400:
        assert dataset.revisions.count() == 1


def test_the_description_names_every_route() -> None:
    described = api.get_openapi_schema()["paths"]
    named = {f"{method.upper()} {path.removeprefix('/api/v1/')}" for path, on in described.items() for method in on}
    assert named == set(MATRIX)
