"""Gives the tests a real PostgreSQL and a real Redis before Django reads its settings.

Loaded by `-p tests.engines` (see pyproject.toml), so it comes before pytest-django. Where DATABASE_URL and REDIS_URL
are set already, those servers are used. Parallel test processes share the engines: pytest-django gives each its own
database, and each gets its own Redis database number here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from webapp.local.servers import Postgres, Redis

_engines: list[Postgres | Redis] = []
_folder: Path | None = None


def _start() -> None:
    global _folder
    os.environ.setdefault("CRISTAE_SECRET_KEY", "tests-only-" + "x" * 50)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    if "DATABASE_URL" in os.environ and "REDIS_URL" in os.environ:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        if worker and "?" not in os.environ["REDIS_URL"]:
            os.environ["REDIS_URL"] += f"?db={int(worker.removeprefix('gw')) % 15 + 1}"
        _own_data()
        return
    _folder = Path(tempfile.mkdtemp(prefix="cristae-tests-"))
    for name, engine in (("DATABASE_URL", Postgres(_folder / "pg")), ("REDIS_URL", Redis(_folder / "redis"))):
        engine.start()
        _engines.append(engine)
        os.environ[name] = engine.url
    _own_data()


def _own_data() -> None:
    """Blobs, job folders and sockets of this test process."""
    root = Path(tempfile.mkdtemp(prefix="cristae-data-"))
    os.environ["CRISTAE_DATA"] = str(root)
    os.environ.setdefault("CRISTAE_LEASE_SECONDS", "3")
    os.environ.setdefault("CRISTAE_HINT_AGAIN_SECONDS", "1")


_start()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    for engine in reversed(_engines):
        engine.stop()
    shutil.rmtree(os.environ["CRISTAE_DATA"], ignore_errors=True)
    if _folder:
        shutil.rmtree(_folder, ignore_errors=True)
