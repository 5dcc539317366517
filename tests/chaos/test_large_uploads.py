"""U5 at full size: 2 GB over a line that is cut at twenty random places, and what the web server needs for it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from tests.chaos.sending import Memory, read, send_cut, sha256_of, stack
from tests.stack import house
from tests.webapp.datasets.server import Browser, begin, row
from webapp.datasets.models import Item
from webapp.datasets.services import dataset_create
from webapp.projects.models import User
from webapp.projects.services import project_create

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(1200)]

LEAST, FLAT = 2 * 10**9, 64 * 2**20


def test_two_gigabytes_cut_at_twenty_random_places_arrive_whole_in_flat_memory(
    django_db_blocker: DjangoDbBlocker, tmp_path: Path
) -> None:
    seed = int(os.environ.get("CRISTAE_TEST_SEED", random.SystemRandom().randrange(10**6)))
    source = stack(tmp_path / "stack.tif", slices=120, size=4096, seed=seed)
    length = source.stat().st_size
    assert length > LEAST
    with django_db_blocker.unblock(), house(CRISTAE_TRAINER="process") as built:
        built.start_web()
        alice = User.objects.create_user("alice")
        dataset = dataset_create(project=project_create(user=alice, name="Mito"), user=alice, name="Lucchi")
        browser = Browser(built.port, alice)
        path = begin(browser, dataset, length=length, name="stack.tif")
        memory = Memory(built.services["web"].pid)
        began = time.monotonic()
        send_cut(browser, path, source, random.Random(seed))
        seconds = time.monotonic() - began
        more = memory.end()
        print(
            f"CRISTAE_TEST_SEED={seed}: {length / 1e9:.2f} GB in {seconds:.0f} s, {length / seconds / 1e6:.0f} MB/s; "
        )
        print(f"the web server had {memory.before / 1e6:.0f} MB, and {more / 1e6:.0f} MB more at most.")
        assert more < FLAT
        built.start("work", "work", "--queues", "io")
        assert read(row(path), seconds=600).report["added"] == 120
        digest = sha256_of(source)
        assert set(Item.objects.filter(dataset=dataset).values_list("image", flat=True)) == {digest}
        assert sha256_of(Path(settings.BLOBS) / digest[:2] / digest) == digest
