"""Files go up from a real browser to real services, through a cut of the line and a reload, and are read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, CDPSession, Page, Request, expect

from ml_core.data import synthetic
from tests.counting import wait_until
from tests.stack import House, house
from webapp.datasets.models import Dataset, Upload
from webapp.datasets.services import dataset_create
from webapp.projects.models import User
from webapp.projects.services import project_create

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

STACK = (16, 1024, 1024)


@pytest.fixture(scope="module")
def services(django_db_setup: None, django_db_blocker: object) -> Iterator[House]:
    with django_db_blocker.unblock(), house(CRISTAE_TRAINER="process") as found:  # type: ignore[attr-defined]
        found.start_web()
        found.start("work", "work", "--queues", "io")
        found.start("reapjobs")
        yield found


@pytest.fixture
def page(chromium: Browser, services: House) -> Iterator[Page]:
    """The page of an empty dataset of Alice's."""
    user = User.objects.filter(username="alice").first() or User.objects.create_user("alice")
    project = project_create(user=user, name="Mito")
    dataset = dataset_create(project=project, user=user, name="Lucchi")
    client = Client()
    client.force_login(user)
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": services.url}])
    opened = context.new_page()
    opened.on("dialog", lambda dialog: dialog.accept())
    opened.goto(f"{services.url}/datasets/{dataset.pk}/")
    yield opened
    context.close()


def line(session: CDPSession, *, bytes_per_second: float = -1, cut: bool = False) -> None:
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": cut, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second},
    )


def test_a_folder_becomes_one_revision_and_the_page_shows_it_without_a_reload(page: Page, tmp_path: Path) -> None:
    folder = synthetic.write_folder(tmp_path / "tissue", count=4, size=128)
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot")
    (folder / ".DS_Store").write_bytes(b"left by a file manager")
    marked = "window.here = true; document.querySelectorAll('#drop-zone .prose').length"
    assert page.evaluate(marked) == 1
    page.set_input_files("input[webkitdirectory]", folder)
    expect(page.locator("#reports")).to_contain_text("tissue.zip", timeout=60_000)
    expect(page.locator("#reports")).to_contain_text(
        "4 images added, 4 masks paired by folder, 0 unpaired. 1 file left out."
    )
    expect(page.locator("#grid li")).to_have_count(4)
    expect(page.locator("h1")).to_contain_text("Lucchi · rev")
    expect(page.get_by_role("link", name="Train on this")).to_be_visible()
    assert page.evaluate("window.here") is True
    assert page.locator("#drop-zone .prose").count() == 0
    dataset = Dataset.objects.latest("pk")
    assert dataset.revisions.get().summary["masks"] == {"mitochondria": 4}
    assert [refused["name"] for refused in Upload.objects.latest("created_at").report["refused"]] == [
        "tissue/images/broken.png"
    ]


def test_a_file_goes_on_where_the_line_was_cut_and_where_a_reload_left_it(page: Page, tmp_path: Path) -> None:
    stack = np.random.default_rng(1).integers(0, 255, STACK, dtype=np.uint8)
    path = tmp_path / "stack_A.tif"
    tifffile.imwrite(path, stack)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    line(session, bytes_per_second=4e6)
    page.set_input_files("#pick-files", path)
    words = page.locator('#upload-list [data-part="words"]')
    expect(words).to_contain_text("MB/s", timeout=30_000)
    line(session, cut=True)
    expect(words).to_contain_text("what has arrived is kept", timeout=30_000)
    line(session, bytes_per_second=4e6)
    expect(words).to_contain_text("MB/s", timeout=30_000)
    page.get_by_role("button", name="Pause").click()
    expect(words).to_have_text("Paused; what has arrived is kept.")
    page.reload()
    arrived = Upload.objects.get(filename="stack_A.tif")
    assert 0 < arrived.offset < arrived.length
    expect(page.locator(f"#upload-{arrived.pk}")).to_contain_text("Drop the same file again to go on")
    line(session)
    page.set_input_files("#pick-files", path)
    expect(page.locator("#reports")).to_contain_text("16 images added.", timeout=60_000)
    expect(page.locator(".upload")).to_have_count(0)
    assert Upload.objects.filter(filename="stack_A.tif").count() == 1


def archive(path: Path, seed: int) -> Path:
    """A zip of one image that no compression makes smaller: 4 MB."""
    noise = np.random.default_rng(seed).integers(0, 255, (2000, 2000), dtype=np.uint8)
    picture = path.with_suffix(".tif")
    tifffile.imwrite(picture, noise)
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.write(picture, picture.name)
    picture.unlink()
    return path


class Flights:
    """How many pieces are on their way at once, and how many at most."""

    def __init__(self, page: Page) -> None:
        self.now: set[Request] = set()
        self.most = 0
        page.on("request", self._begun)
        page.on("requestfinished", self._ended)
        page.on("requestfailed", self._ended)

    def _begun(self, request: Request) -> None:
        if request.method == "PATCH":
            self.now.add(request)
            self.most = max(self.most, len(self.now))

    def _ended(self, request: Request) -> None:
        self.now.discard(request)


def test_three_go_up_at_once_and_one_that_is_refused_stops_no_other(page: Page, tmp_path: Path) -> None:
    whole = [archive(tmp_path / f"animal_{n}.zip", seed=n) for n in range(4)]
    nothing, broken = tmp_path / "nothing.zip", tmp_path / "broken.zip"
    nothing.write_bytes(b"")
    broken.write_bytes(b"PK\x03\x04 and then no zip" * 1000)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    line(session, bytes_per_second=1.5e6)
    flights = Flights(page)
    page.set_input_files("#pick-files", [whole[0], nothing, broken, *whole[1:]])
    sending = page.locator("#upload-list").get_by_text("MB/s").or_(page.locator("#upload-list").get_by_text("kB/s"))
    expect(sending).to_have_count(3, timeout=30_000)
    row = page.locator("#upload-list li", has_text="nothing.zip")
    expect(row).to_contain_text("nothing.zip was left out: the file is empty (0 bytes). Export it again.")
    total = page.locator("#upload-all")
    expect(total).to_contain_text("1 stopped")
    expect(total).to_contain_text("MB/s")
    expect(total).to_contain_text("left")
    page.get_by_role("button", name="Pause all").click()
    expect(page.get_by_text("Paused; what has arrived is kept.")).to_have_count(4)
    begun = Upload.objects.filter(state="receiving", offset__gt=0)
    wait_until(lambda: begun.count() == 3, what="what was in the air to be counted")
    assert all(upload.offset < upload.length for upload in begun)
    line(session)
    page.get_by_role("button", name="Resume all").click()
    expect(page.locator("#reports")).to_contain_text("Not imported. broken.zip is not a whole zip file", timeout=60_000)
    for path in whole:
        expect(page.locator("#reports")).to_contain_text(path.name, timeout=60_000)
    expect(page.locator("#grid li")).to_have_count(4)
    expect(page.locator("#upload-list li")).to_have_count(1)
    assert flights.most == 3
    dataset = Dataset.objects.latest("pk")
    assert dataset.uploads.filter(state="done").count() == 4
    row.get_by_role("button", name="Discard").click()
    expect(total).to_be_hidden()


def test_a_dropped_folder_goes_up_with_its_paths(page: Page, tmp_path: Path) -> None:
    folder = synthetic.write_folder(tmp_path / "liver", count=3, size=64)
    stack = tmp_path / "beside.png"
    stack.write_bytes((folder / "images").glob("*.png").__next__().read_bytes())
    session = page.context.new_cdp_session(page)
    where = {"x": 400, "y": 300, "data": {"items": [], "files": [str(folder), str(stack)], "dragOperationsMask": 1}}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **where})
    expect(page.locator("#reports")).to_contain_text("3 masks paired by folder", timeout=60_000)
    assert Dataset.objects.latest("pk").uploads.get().filename == "7 files.zip"
