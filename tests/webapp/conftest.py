"""Rows that the pages show, made without a queue."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from ml_core.specs import from_preset
from webapp.datasets.models import Dataset, Revision
from webapp.jobs.models import Event, Job, State
from webapp.projects.models import Project, User

Page = Callable[[User], Client]


@pytest.fixture
def seen_by() -> Page:
    """A browser in which that person is signed in."""

    def enter(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return enter


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return Dataset.objects.create(project=project, name="Lucchi", created_by=alice)


@pytest.fixture
def revision(dataset: Dataset, alice: User) -> Revision:
    return Revision.objects.create(
        dataset=dataset,
        number=1,
        manifest="3f9c" + "a" * 60,
        items_count=165,
        summary={"masks": {"mitochondria": 165}, "with_mask": 165, "pixel_sizes": {"5.0": 165}},
        change="165 images added.",
        created_by=alice,
    )


JobMaker = Callable[..., Job]


@pytest.fixture
def make_job(project: Project, alice: User, revision: Revision) -> JobMaker:
    """A job in any state; `minutes` is how long ago it started."""

    def make(kind: str = "segment", state: State = State.QUEUED, *, minutes: float = 5, **more: Any) -> Job:
        started = timezone.now() - datetime.timedelta(minutes=minutes)
        never = state in (State.QUEUED, State.WAITING)
        ended = state in (State.DONE, State.FAILED, State.CANCELLED)
        given = {
            "name": f"A {kind} job",
            "spec": from_preset(kind, "quick").model_dump(mode="json"),
            "inputs": {"dataset": {"revision": revision.pk}},
            "queue": "interactive" if kind == "cam" else "device",
            "epoch": 0 if never else 1,
            "created_by": alice,
            "queued_at": started,
            "turn": started,
            "started_at": None if never else started,
            "ended_at": started + datetime.timedelta(minutes=2) if ended else None,
        }
        return Job.objects.create(kind=kind, state=state, **{"project": project, **given, **more})

    return make


EventMaker = Callable[..., Event]


@pytest.fixture
def say() -> EventMaker:
    """One event of a job."""

    def make(job: Job, kind: str, *, epoch: int = 1, **more: Any) -> Event:
        given = {"time": timezone.now(), **more}
        return Event.objects.create(job=job, epoch=epoch, seq=job.events.count() + 1, kind=kind, **given)

    return make
