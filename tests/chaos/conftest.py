"""A house whose parts the tests kill. One for all of them, as it takes seconds to build."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.counting import make_revision
from tests.stack import House, house
from webapp.datasets.models import Revision
from webapp.projects.models import Project


@pytest.fixture(scope="module")
def built(django_db_blocker: DjangoDbBlocker) -> Iterator[House]:
    with django_db_blocker.unblock(), house() as found:
        yield found


@pytest.fixture
def standing(built: House) -> House:
    """Engines, reaper and a worker for the device; no jobs."""
    built.clear()
    built.ensure("reapjobs")
    built.ensure("work", "work", "--queues", "device")
    return built


@pytest.fixture
def stood_on(standing: House) -> Revision:
    """A revision in the house's own database."""
    return make_revision(Project.objects.create(name="Mito"))
