"""The run record names the code: release and commit."""

from __future__ import annotations

import tomllib

import pytest
from django.conf import settings as house
from pytest_django import Settings

from webapp.version import VERSION, code_version


@pytest.fixture(autouse=True)
def _fresh() -> None:
    code_version.cache_clear()


def test_the_release_is_that_of_the_project_file() -> None:
    assert tomllib.loads((house.ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_an_image_says_the_commit_that_it_was_built_from(settings: Settings) -> None:
    settings.COMMIT = "0123456789ab"
    assert code_version() == f"{VERSION} (0123456789ab)"


def test_without_git_and_without_a_commit_the_release_stands_alone(settings: Settings, tmp_path: object) -> None:
    settings.COMMIT = ""
    settings.ROOT = tmp_path
    assert code_version() == VERSION
