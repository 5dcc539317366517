"""Nothing that was uploaded runs: hostile files under every suffix, in a real browser, at every address of theirs."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import get_resolver, resolve, reverse
from django.urls.resolvers import URLPattern, URLResolver
from django.utils import timezone
from playwright.sync_api import Browser, Error, Page, Response
from pytest_django.live_server_helper import LiveServer

from tests.fuzz import polyglots
from tests.fuzz.corpus import picture
from tests.webapp.datasets.intake.test_commit import upload
from webapp.datasets.models import Dataset, Item, Upload
from webapp.datasets.pictures.pyramids import WHOLE_TO, is_large
from webapp.datasets.services import dataset_create
from webapp.datasets.uploads.spool import spool_path
from webapp.jobs.models import Artifact, Event, Job
from webapp.projects.models import Project, User

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

PAGES = {"dataset", "item", "job", "job-images", "queue", "home", "project"}
"""Addresses of pages of ours: the only ones that are HTML."""
CHANGES = {
    "dataset-edit",
    "dataset-split",
    "dataset-kind",
    "dataset-classes",
    "dataset-masks",
    "revision-restore",
    "revision-subset",
    "upload-create",
    "job-move",
}
"""Take what is posted, and answer a GET with a refusal."""
KEPT = {"dataset-list", "revision-export", "artifact", "job-points", "job-record", "upload-left-out"}
"""Files to keep: never shown in place."""
SHOWN = {
    "upload": "application/json",
    "item-thumbnail": "image/webp",
    "item-image": "image/png",
    "item-tile": "image/png",
    "item-mask": "image/png",
    "item-histogram": "application/json",
    "item-around": "application/json",
    "job-events": "application/json",
    "job-log": "text/plain",
}

HANDLES = {"item_id", "dataset_id", "revision_id", "upload_id", "artifact_id", "job_id"}

AS_SCRIPT = """addresses => Promise.all(addresses.map(address => new Promise(resolve => {
  const script = document.createElement('script');
  script.onload = () => resolve(address);
  script.onerror = () => resolve(null);
  script.src = address;
  document.body.append(script);
}))).then(all => all.filter(Boolean))"""
IN_PLACE = """addresses => Promise.all(addresses.map(address => new Promise(resolve => {
  const made = ['iframe', 'object', 'embed'].map(kind => document.createElement(kind));
  for (const one of made) {
    one.setAttribute(one.localName === 'object' ? 'data' : 'src', address);
    document.body.append(one);
  }
  setTimeout(resolve, 300);
})))"""


class Watched:
    """A page of Alice's, and all that it says and gets."""

    def __init__(self, page: Page, server: str) -> None:
        self.page = page
        self.server = server
        self.ran: list[str] = []
        self.answers: dict[str, Response] = {}
        page.on("dialog", lambda dialog: (self.ran.append(f"{page.url}: {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda said: self.ran.append(f"{page.url}: {said.text}") if self._bad(said.text) else None)
        page.on("response", lambda response: self.answers.setdefault(response.url, response))

    @staticmethod
    def _bad(said: str) -> bool:
        # What the policy had to stop was written into a page unescaped: the policy is the second lock, not the first.
        # Not styles: the browser's own viewer of pictures puts some on itself, and the policy of pictures forbids all.
        stopped = "Content Security Policy" in said and not said.startswith("Applying inline style")
        return said == polyglots.RAN or stopped

    def open(self, path: str) -> Response | None:
        """Goes there; None where the browser kept it as a file."""
        while True:
            try:
                return self.page.goto(self.server + path)
            except Error as error:
                if "interrupted by another navigation" in str(error):
                    # The browser was still showing the refusal before: it is left to come to rest.
                    self.page.wait_for_load_state()
                    continue
                if "Download is starting" in str(error) or "ERR_ABORTED" in str(error):
                    return None
                if "ERR_HTTP_RESPONSE_CODE_FAILURE" in str(error):  # A refusal without a word: nothing to show.
                    return self.answers[self.server + path]
                raise


@pytest.fixture
def dataset(project: Project, alice: User, tmp_path: Path) -> Dataset:
    """Everything went in: by one zip whose report is on the page, and as a mask and a label."""
    made = dataset_create(project=project, user=alice, name=polyglots.HTML.decode()[:150])
    files: dict[str, object] = dict(polyglots.polyglots(tmp_path))
    assert len(files) >= 200
    files["images/wide.png"] = picture(np.zeros((16, WHOLE_TO + 8), np.uint8), "PNG") + polyglots.HTML
    evil = polyglots.NAMES[1].removesuffix(".png")
    files[f"{evil}/x.png"] = files["images/png-html.png"]
    report = upload(made, files, user=alice, folder=tmp_path, filename=polyglots.NAMES[0])
    assert report["added"] + len(report["refused"]) + len(report["left_out"]) >= 200  # type: ignore[operator, arg-type]
    assert report["added"] >= 60, "there is something to open"  # type: ignore[operator]
    masked = Item.objects.filter(dataset=made, name="images/png-html.png").get()
    mask = {"sha256": masked.image, "page": 0, "name": polyglots.NAMES[0], "rule": "folder", "values": {"1": 4}}
    Item.objects.filter(pk=masked.pk).update(masks={evil: mask}, label=polyglots.NAMES[0], group=evil)
    Upload.objects.create(
        dataset=made,
        created_by=alice,
        filename=polyglots.NAMES[0],
        length=10,
        offset=5,
        expires_at=timezone.now() + timedelta(days=1),
    )
    return made


@pytest.fixture
def watched(chromium: Browser, live_server: LiveServer, alice: User) -> Iterator[Watched]:
    client = Client()
    client.force_login(alice)
    context = chromium.new_context(accept_downloads=True)
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": live_server.url}])
    yield Watched(context.new_page(), live_server.url)
    context.close()


def artifact_of(job: Job, content: bytes, *, name: str) -> Artifact:
    """A file of a job's that is as bad as an upload."""
    event = Event.objects.create(job=job, epoch=1, seq=1, kind="artifact", name=name, time=timezone.now())
    return Artifact.objects.create(
        job=job,
        event=event,
        epoch=1,
        kind="weights",
        name=name,
        sha256=default_storage.put_bytes(content),  # type: ignore[attr-defined]
        size=len(content),
        media_type="application/octet-stream",
    )


def routes(patterns: list[URLPattern | URLResolver] | None = None) -> set[str]:
    """Names of all addresses that lead to something of a dataset's or a job's."""
    found: set[str] = set()
    for one in patterns if patterns is not None else get_resolver().url_patterns:
        if isinstance(one, URLResolver):
            found |= routes(one.url_patterns) if one.namespace is None else set()
        elif set(one.pattern.converters) & HANDLES:
            found.add(str(one.name))
    return found


def addresses(dataset: Dataset, job: Job, artifact: Artifact) -> dict[str, str]:
    """Path -> name of its route: everything that could hand out what was uploaded."""
    items = list(Item.objects.filter(dataset=dataset))
    revision = dataset.revisions.get()
    found = {reverse("dataset", args=[dataset.pk]): "dataset"}
    for tab in ("splits", "doctor", "history"):
        found[reverse("dataset", args=[dataset.pk]) + f"?tab={tab}"] = "dataset"
    found |= {reverse(name, args=[dataset.pk]): name for name in CHANGES if name.startswith("dataset")}
    found |= {reverse(name, args=[revision.pk]): name for name in CHANGES if name.startswith("revision")}
    found |= {reverse(name, args=[dataset.pk]): name for name in ("dataset-list", "upload-create")}
    found[reverse("revision-export", args=[revision.pk])] = "revision-export"
    for name in ("upload", "upload-left-out"):
        found |= {reverse(name, args=[row.pk]): name for row in Upload.objects.all()}
    for one in items:
        for name in ("item-thumbnail", "item-image", "item-histogram", "item-around"):
            found[reverse(name, args=[one.pk])] = name
        found[reverse("item-colour", args=[one.pk, artifact.pk])] = "item-colour"
        if is_large(one):
            found[reverse("item-tile", args=[one.pk, 0, 0, 0])] = "item-tile"
        found |= {reverse("item-mask", args=[one.pk, layer]): "item-mask" for layer in one.masks}
    for one in [one for one in items if one.name.startswith("names/") or one.masks]:
        found[reverse("item", args=[one.pk])] = "item"
    of_jobs = ("job", "job-images", "job-events", "job-points", "job-record", "job-log")
    found |= {reverse(name, args=[job.pk]): name for name in of_jobs}
    found[reverse("artifact", args=[artifact.pk, "page.html"])] = "artifact"
    found[reverse("job-move", args=[job.pk])] = "job-move"
    return found


def guesses(dataset: Dataset) -> list[str]:
    """Where careless servers keep uploads."""
    item = Item.objects.filter(dataset=dataset)[0]
    spool = spool_path(uuid.UUID(int=1)).name
    roots = ("media", "static", "uploads", "blobs", "data/blobs", "spool", "static/..")
    return [f"/{root}/{name}" for root in roots for name in (item.image, f"{item.image[:2]}/{item.image}", spool)]


def test_of_200_hostile_files_none_runs_anywhere(dataset: Dataset, watched: Watched, tmp_path: Path) -> None:
    job = Job.objects.get()
    artifact = artifact_of(job, polyglots.HTML, name="page.html")
    Job.objects.update(reason=polyglots.HTML.decode(), log_tail=polyglots.HTML.decode())
    every = addresses(dataset, job, artifact)
    assert routes() - set(every.values()) - {"job-action", "job-new", "dataset-new"} == set(), "all are opened"
    for path, name in every.items():
        response = watched.open(path)
        if response is None:
            assert name in KEPT, (path, "only what is to be kept is kept")
            continue
        kind = response.headers.get("content-type", "").split(";")[0]
        assert response.status < 500, path
        if name in CHANGES:
            assert response.status in (404, 405), path
        elif name not in PAGES and response.status == 200:
            assert (name, kind) == (name, SHOWN[name]), path
            if name.startswith("item-"):
                assert "sandbox" in response.headers["content-security-policy"], path
                assert response.headers["cross-origin-resource-policy"] == "same-origin", path
    for path in guesses(dataset):
        answer = watched.open(path)
        assert answer is not None, path
        assert answer.status == 404, path
    assert len(every) >= 300
    for address, response in watched.answers.items():
        if not address.startswith(f"{watched.server}/"):
            continue
        kind = response.headers.get("content-type", "")
        path = address.removeprefix(watched.server)
        if not path.startswith(
            "/static/"
        ):  # Our own style sheets and scripts, which the server of the tests hands out.
            assert response.headers.get("x-content-type-options") == "nosniff", address
            assert "svg" not in kind, address
            # The viewer fetches the pages of neighbouring items too, in the filters that the address names.
            if "html" in kind and response.status < 300:
                assert (every.get(path) or resolve(path.partition("?")[0]).url_name) in PAGES, address
        if every.get(path) in KEPT and response.status == 200:  # A list is posted for; a GET of it is refused.
            assert response.headers["content-disposition"].startswith("attachment"), address
    assert watched.ran == []


def test_as_a_script_or_a_frame_of_our_own_pages_nothing_runs_either(dataset: Dataset, watched: Watched) -> None:
    """The policy of the pages lets scripts of this server run: an uploaded file must not pass for one."""
    job = Job.objects.get()
    artifact = artifact_of(job, polyglots.JS.encode(), name="page.js")
    every = [path for path, name in addresses(dataset, job, artifact).items() if name not in PAGES | CHANGES]
    watched.open("/queue/")
    assert watched.page.evaluate(AS_SCRIPT, every) == []
    served = [path for path in every if "/export.zip" not in path]
    for start in range(0, len(served), 60):
        watched.open("/queue/")
        watched.page.evaluate(IN_PLACE, served[start : start + 60])
    assert [said for said in watched.ran if said.endswith(f": {polyglots.RAN}")] == []


def test_the_alarm_rings_where_something_does_run(watched: Watched, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(polyglots.HTML)
    watched.page.goto(page.as_uri())
    watched.page.wait_for_timeout(300)
    assert len(watched.ran) >= 2
    shutil.copy(page, tmp_path / "page.svg")
    (tmp_path / "page.svg").write_bytes(polyglots.SVG)
    before = len(watched.ran)
    watched.page.goto((tmp_path / "page.svg").as_uri())
    assert len(watched.ran) > before
