"""`up --demo`: a newcomer sees a curve move within a minute, and a second start makes no second project."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest

from tests.up.conftest import Person, Running, answers, until

FIRST_POINT_SECONDS = 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_trains_within_a_minute_and_is_made_once(started: Callable[..., Running]) -> None:
    first = started(options=("--demo",), trainer="forkserver")
    until(lambda: answers(first.url), seconds=180, what=f"the web's answer; it says: {first.words}")
    began = time.monotonic()
    person = Person()
    person.sign_in(first.link())
    left = FIRST_POINT_SECONDS - (time.monotonic() - began)
    until(lambda: _points(person, first), seconds=left, what="a point of any job")
    assert first.stop() == 0
    assert first.family() == []

    jobs = _jobs(person, started(port=first.port, options=("--demo",), trainer="forkserver"))
    assert len(jobs) == 4, "the second start must go on with the same four jobs"


def _home(person: Person, up: Running) -> str:
    up.link()
    return person.open(f"{up.url}/")


def _jobs(person: Person, up: Running) -> set[str]:
    """Addresses of all jobs that the projects on the first page have."""
    projects = set(re.findall(r'href="(/projects/\d+/)"', _home(person, up)))
    assert len(projects) == 1
    return set(re.findall(r'href="(/jobs/\d+/)"', person.open(f"{up.url}{projects.pop()}")))


def _points(person: Person, up: Running) -> bool:
    for job in _jobs(person, up):
        answer = json.loads(person.open(f"{up.url}{job}events.json?after=0"))
        if any(event["kind"] == "point" and event["value"] is not None for event in answer["events"]):
            return True
    return False
