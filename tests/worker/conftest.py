"""A worker inside the test's own process, with real trainers beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from tests.counting import TRAINER, Counting, make_revision
from webapp.datasets.models import Revision
from webapp.projects.models import Project
from worker import tasks


@pytest.fixture
def counting(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Counting:
    settings.TRAINER = TRAINER
    settings.DEVICES = ["cpu"]
    monkeypatch.setenv("COUNTING", str(tmp_path))
    return Counting(tmp_path)


@pytest.fixture
def revision(transactional_db: None, project: Project) -> Revision:
    return make_revision(project)


class Hands:
    """Works a queue off on a thread."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def work(self, queue: str = "device") -> threading.Thread:
        thread = threading.Thread(target=_work_off, args=[queue])
        self._threads.append(thread)
        thread.start()
        return thread

    def leave(self) -> None:
        """As a worker told to end does: trainers write a checkpoint."""
        tasks.LEAVE.set()
        for thread in self._threads:
            thread.join()
        tasks.LEAVE.clear()


def _work_off(queue: str) -> None:
    try:
        tasks.work_off(queue)
    finally:
        connection.close()


@pytest.fixture
def hands(counting: Counting) -> Iterator[Hands]:
    found = Hands()
    yield found
    found.leave()
