"""A researcher's first day: real micrographs go in through the page, a study runs on them, and its figures come out.

The whole house stands for it: web with sockets, workers with the fork server, reaper, PostgreSQL, Redis.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from tests.counting import steps_of, wait_until
from tests.stack import House, house
from webapp.datasets.models import Dataset, Revision
from webapp.jobs.models import Job, State
from webapp.projects.models import Membership, Project, Role, User

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

MINUTE = 60_000
STUDY = 6 * MINUTE
"""The longest that the quick study may take on two busy cores."""


@pytest.fixture
def real_house(transactional_db: None) -> Iterator[House]:
    with house(CRISTAE_TRAINER="forkserver", CRISTAE_LEASE_SECONDS="10") as found:
        found.start_web()
        found.start("work")
        found.start("reapjobs")
        yield found


@pytest.fixture
def page(real_house: House, chromium: Browser) -> Iterator[Page]:
    """The window of somebody who owns an empty project."""
    user = User.objects.create_user("grace", "grace@example.org", "a long enough passphrase")
    Membership.objects.create(project=Project.objects.create(name="Hippocampus"), user=user, role=Role.OWNER)
    client = Client()
    client.force_login(user)
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": real_house.url}])
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(f"{opened.url}: {error}"))
    opened.goto(real_house.url)
    yield opened
    context.close()
    assert complaints == []


def _pack(source: Path, target: Path, *, most: int | None = None) -> int:
    """Images and masks of `source` as a zip; returns the number of images."""
    images = sorted((source / "images").iterdir())[:most]
    with zipfile.ZipFile(target, "w") as archive:
        for image in images:
            archive.write(image, f"images/{image.name}")
            archive.write(source / "masks" / image.name, f"masks/{image.name}")
    return len(images)


def _upload(page: Page, path: Path) -> None:
    page.wait_for_load_state()  # faster than any person, the test would choose files before the page listens
    page.locator("#pick-files").set_input_files(path)


def _open_job(page: Page, house: House, kind: str) -> Job:
    job = Job.objects.filter(kind=kind).latest("pk")
    page.goto(f"{house.url}/jobs/{job.pk}/")
    return job


def _done(page: Page) -> None:
    expect(page.locator("#state")).to_contain_text("Done", timeout=STUDY)


def test_real_micrographs_go_through_the_whole_study_in_the_browser(
    page: Page, real_house: House, real_data: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "lucchi.zip"
    count = _pack(real_data / "lucchi" / "training", archive)

    page.get_by_role("link", name="Hippocampus").first.click()
    page.get_by_role("link", name="Add micrographs").click()
    page.get_by_label("Name").fill("Lucchi")
    page.get_by_role("button", name="Create the dataset").click()
    _upload(page, archive)
    expect(page.get_by_text(f"{count} images", exact=False).first).to_be_visible(timeout=2 * MINUTE)
    expect(page.locator("#contents img").first).to_be_visible()
    revision = Revision.objects.latest("pk")
    assert revision.items_count == count == 42
    assert all(item.masks for item in revision.items)
    assert not revision.items.exclude(problems=[]).exists()

    page.get_by_role("button", name="Run the whole study").click()
    page.get_by_role("button", name="Queue the study").click()
    expect(page.locator("h1")).to_contain_text("Lucchi")

    _open_job(page, real_house, "colorize")
    _done(page)
    expect(page.locator("#sheets .panes svg").first).to_be_visible()

    pretraining = _open_job(page, real_house, "pretrain")
    expect(page.locator("#charts canvas").first).to_be_visible(timeout=2 * MINUTE)
    expect(page.locator("#sheets .panes svg").first).to_be_visible(timeout=2 * MINUTE)

    # While the device trains, another upload is read: the queues do not wait for each other.
    more = tmp_path / "more.zip"
    _pack(real_data / "lucchi" / "testing", more, most=3)
    second = page.context.new_page()
    second.goto(f"{real_house.url}/datasets/{Dataset.objects.get().pk}/")
    _upload(second, more)
    expect(second.get_by_text(f"{count + 3} images", exact=False).first).to_be_visible(timeout=2 * MINUTE)
    pretraining.refresh_from_db()
    assert pretraining.state == State.RUNNING
    second.close()

    # The worker dies without a word: the page tells of it and goes on by itself.
    kept = Job.objects.filter(pk=pretraining.pk, checkpoint_step__gt=0)
    wait_until(kept.exists, seconds=120, what="a checkpoint")
    for worker in real_house.workers("device"):
        worker.kill()
    expect(page.locator("#notes")).to_contain_text("fell silent", timeout=2 * MINUTE)
    _done(page)
    pretraining.refresh_from_db()
    assert pretraining.epoch > 1
    every, total = pretraining.spec["points_every"], pretraining.record["total_steps"]
    assert steps_of(pretraining) == list(range(every, total + 1, every))
    expect(page.locator("#notes")).to_contain_text("started again from step")

    segmentation = _open_job(page, real_house, "segment")
    expect(page.locator("#charts canvas").first).to_be_visible(timeout=2 * MINUTE)
    _done(page)
    page.reload()
    expect(page.locator("#results .headline")).to_have_text(re.compile(r"0\.\d+"))
    segmentation.refresh_from_db()
    results = segmentation.results
    assert results["mean_iou"] > results["floor"] > 0.4
    assert results["foreground_iou"] > 0.2

    maps = Job.objects.filter(kind="cam").earliest("pk")
    page.goto(f"{real_house.url}/jobs/{maps.pk}/")
    _done(page)
    expect(page.locator("#sheets .panes svg").first).to_be_visible()
    assert page.locator("#sheets image").first.evaluate("image => image.decode().then(() => true)")

    # While the device trains, a map is made on the interactive queue.
    page.goto(f"{real_house.url}/projects/{maps.project_id}/jobs/new/?kind=pretrain&preset=quick")
    page.get_by_label("Views").select_option("byol")
    page.get_by_label("Epochs").fill("5000")
    page.get_by_role("button", name="Queue job").click()
    expect(page.locator("#state")).to_contain_text("Running", timeout=MINUTE)
    training = Job.objects.filter(kind="pretrain").latest("pk")
    mapping = page.context.new_page()
    mapping.goto(f"{real_house.url}/projects/{maps.project_id}/jobs/new/?kind=cam&preset=quick")
    mapping.get_by_label("Method").select_option("eigencam")
    # Not the encoder of the training that runs: the map would wait for it.
    ready = mapping.locator("#slot-encoder option", has_text=f"#{pretraining.pk} ")
    mapping.locator("#slot-encoder").select_option(ready.get_attribute("value"))
    mapping.get_by_role("button", name="Queue job").click()
    _done(mapping)
    expect(mapping.locator("#sheets .panes svg").first).to_be_visible()
    training.refresh_from_db()
    assert training.state == State.RUNNING
    mapping.close()
