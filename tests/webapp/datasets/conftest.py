"""A real server beside the test, and somebody who uploads to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.webapp.datasets.server import Browser, serving
from webapp.datasets import services
from webapp.datasets.models import Dataset
from webapp.projects.models import Project, User


@pytest.fixture
def port(transactional_db: None) -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


@pytest.fixture
def browser(port: int, alice: User) -> Browser:
    return Browser(port, alice)
