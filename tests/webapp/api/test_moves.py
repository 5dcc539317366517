"""A script moves a queued job as a person would."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.counting import make_revision, pretrain
from tests.webapp.api.test_api import bearer
from webapp.projects.models import Project, User

pytestmark = pytest.mark.django_db


def test_a_move_answers_the_order_of_ones_own_queued_jobs(client: Client, project: Project, bob: User) -> None:
    hidden = pretrain(make_revision(Project.objects.create(name="Liver"), "Liver"))
    first, second, third = (pretrain(make_revision(project, name)) for name in "abc")
    headers = bearer(bob, may_write=True)
    address = f"/api/v1/jobs/{third.pk}/move"
    answer = client.post(address, {"to": "front"}, "application/json", headers=headers)
    assert (answer.status_code, answer.json()) == (200, [third.pk, first.pk, second.pk])
    answer = client.post(address, {"to": "up"}, "application/json", headers=headers)
    assert answer.status_code == 409
    assert answer.json() == {
        "sentence": f"#{third.pk} stays: the job before it is another project's, "
        "and only an administrator moves past it."
    }
    assert client.post(address, {"to": "top"}, "application/json", headers=headers).status_code == 422
    assert (
        client.post(f"/api/v1/jobs/{hidden.pk}/move", {"to": "down"}, "application/json", headers=headers).status_code
        == 404
    )
