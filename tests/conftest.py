"""Fixtures for all tests: a cast of people with known rights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from webapp.projects.models import Membership, Project, Role, User

# A fifth of a second per person that a test makes, otherwise. The hash says its own count: every process can check it.
PBKDF2PasswordHasher.iterations = 1

DATA = Path(os.environ.get("CRISTAE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real micrographs; the test is skipped where there is none."""
    if not DATA.is_dir():
        pytest.skip(f"No real micrographs at {DATA}; set CRISTAE_TEST_DATA to their folder.")
    return DATA


@pytest.fixture
def project(db: None) -> Project:
    return Project.objects.create(name="Mito")


def _person(name: str, project: Project | None, role: Role | None) -> User:
    user = User.objects.create_user(name, f"{name}@example.org", "a long enough passphrase")
    if project and role:
        Membership.objects.create(project=project, user=user, role=role)
    return user


@pytest.fixture
def alice(project: Project) -> User:
    """Owns the project."""
    return _person("alice", project, Role.OWNER)


@pytest.fixture
def bob(project: Project) -> User:
    """May edit."""
    return _person("bob", project, Role.EDITOR)


@pytest.fixture
def vera(project: Project) -> User:
    """May only look."""
    return _person("vera", project, Role.VIEWER)


@pytest.fixture
def charlie(db: None) -> User:
    """A stranger: must see nothing."""
    return _person("charlie", None, None)
