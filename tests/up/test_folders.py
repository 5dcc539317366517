"""Wherever people put it: folders with spaces and letters of their language, and ones too deep for a socket."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.up.conftest import Person, Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "name", ['Mes données "d\'été"', "/".join(["a folder that is deep"] * 8)], ids=["spaces and accents", "deep"]
)
def test_it_runs_in_a_folder_of_that_name(started: Callable[..., Running], name: str) -> None:
    up = started(name)
    person = Person()
    person.sign_in(up.link())
    assert person.here == f"{up.url}/"
    assert up.stop() == 0
    assert up.family() == []
