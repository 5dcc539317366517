"""A database and a `var/` from before the modules moved into folders go on working.

`of_before/` was written by the code as it stood before the move: `pg_dump --inserts` of a database with one project,
without comments and psql's own commands, and the files that its rows name.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.up.conftest import ROOT
from webapp.local.servers import Postgres

OF_BEFORE = Path(__file__).with_name("of_before")

ASK = """
import django
django.setup()
from django.test import Client
from ml_core.specs import load_spec
from webapp.jobs.job_kinds import KINDS
from webapp.jobs.lifecycle.leases import job_claim
from webapp.jobs.models import Artifact, Event, Job
from webapp.projects.models import User
from webapp.registry.models import Encoder
from worker.finishers import finisher_of

PAGES = ["/", "/projects/1/", "/datasets/1/", "/items/1/", "/jobs/1/", "/jobs/1/points.csv", "/jobs/1/record.json",
         "/jobs/2/", "/queue/", "/experiments/1/", "/projects/1/jobs/new/?kind=segment", "/items/2/image.png",
         "/items/2/masks/cell.png", "/revisions/1/export.zip", "/api/v1/projects", "/search/?q=mito"]
for name in ("alice", "vera", "charlie"):
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(User.objects.get(username=name))
    print(name, *(client.get(page).status_code for page in PAGES))
encoder = Encoder.objects.get()
print("encoder", encoder.architecture, encoder.artifact.job.name, encoder.mean)
print("points", Event.objects.filter(kind="point").count())
claimed = job_claim("device", worker="w", device="cpu")
print("claimed", claimed.name, load_spec(claimed.spec).kind, claimed.kind in KINDS, finisher_of(claimed.kind).__name__)
"""


@pytest.fixture
def variables(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a server needs to find the database and the files of before."""
    postgres = Postgres(tmp_path / "pg")
    postgres.start()
    try:
        with psycopg.connect(postgres.url) as connection:
            connection.execute((OF_BEFORE / "database.sql").read_text())  # type: ignore[arg-type]
        for blob in (OF_BEFORE / "blobs").iterdir():
            to = tmp_path / "var" / "blobs" / blob.name[:2] / blob.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(blob, to)
        yield {
            **os.environ,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": "redis://127.0.0.1:9/0",
            "CRISTAE_DATA": str(tmp_path / "var"),
            "CRISTAE_SECRET_KEY": secrets.token_urlsafe(64),
            "CRISTAE_URL": "http://127.0.0.1:8000",
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
        }
    finally:
        postgres.stop()


def _python(*words: str, variables: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_database_and_files_of_before_the_move_serve_every_page_and_their_queued_job_is_claimed(
    variables: dict[str, str],
) -> None:
    _python("manage.py", "migrate", "--noinput", variables=variables)
    answers = dict(line.split(" ", 1) for line in _python("-c", ASK, variables=variables).splitlines())
    assert set(answers["alice"].split()) == {"200"}
    assert answers["vera"].split()[:6] == ["200"] * 6
    assert answers["charlie"].split()[1:5] == ["404"] * 4
    assert answers["encoder"] == "resnet18 mito first [0.5]"
    assert answers["points"] == "39"
    assert answers["claimed"] == "mito job pretrain True _register_encoder"
