"""Answers of any size leave the server in parts, also under ASGI, where Django would gather them first."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async
from django.core.files.storage import default_storage
from django.db import connections
from django.test import AsyncClient

from tests.webapp.artifacts import keep
from tests.webapp.conftest import EventMaker, JobMaker, Page
from webapp.jobs.models import State
from webapp.projects.models import User
from webapp.streaming import PART

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MODEL = {"name": "encoder.safetensors", "media_type": "application/octet-stream"}


@pytest.fixture
async def browser(bob: User) -> AsyncIterator[AsyncClient]:
    client = AsyncClient()
    await sync_to_async(client.force_login)(bob)
    yield client
    await sync_to_async(connections.close_all)()  # The requests' own connection would hold the test database.


async def test_a_model_leaves_in_parts(browser: AsyncClient, make_job: JobMaker, say: EventMaker) -> None:
    content = os.urandom(3 * PART + 1)
    job = await sync_to_async(make_job)("pretrain", State.DONE)
    made = await sync_to_async(keep)(
        job, say, content, name="encoder.safetensors", media_type="application/octet-stream"
    )
    answer = await browser.get(f"/artifacts/{made.pk}/encoder.safetensors")
    parts = [part async for part in answer.streaming_content]  # type: ignore[attr-defined]
    assert [len(part) for part in parts] == [PART, PART, PART, 1]
    assert b"".join(parts) == content
    assert answer.headers["Content-Length"] == str(len(content))


async def test_points_leave_many_to_a_part(browser: AsyncClient, make_job: JobMaker, say: EventMaker) -> None:
    job = await sync_to_async(make_job)("pretrain", State.RUNNING)
    for step in (1, 2):
        await sync_to_async(say)(job, "point", name="loss/train", step=step, value=1.5)
    answer = await browser.get(f"/jobs/{job.pk}/points.csv")
    (part,) = [part async for part in answer.streaming_content]  # type: ignore[attr-defined]
    assert [line.split(",")[:2] for line in part.decode().splitlines()] == [
        ["name", "step"],
        ["loss/train", "1"],
        ["loss/train", "2"],
    ]


def test_a_file_that_was_lost_is_not_found(seen_by: Page, bob: User, make_job: JobMaker, say: EventMaker) -> None:
    made = keep(make_job("pretrain", State.DONE), say, b"once", **MODEL)
    os.unlink(default_storage.path(made.sha256))
    assert seen_by(bob).get(f"/artifacts/{made.pk}/encoder.safetensors").status_code == 404
