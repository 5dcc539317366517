"""U5: an upload is whole or not there, whatever is cut, full or killed on its way."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from tests.chaos.sending import CUTS, read, send_cut, send_part, sha256_of, stack
from tests.counting import wait_until
from tests.fuzz.corpus import tiff, zipped
from tests.stack import House, house
from tests.webapp.datasets.server import Browser, begin, offset_of, row
from webapp.datasets import services
from webapp.datasets.models import Blob, Dataset, Item, Upload
from webapp.datasets.uploads import spool as uploads_spool
from webapp.datasets.uploads import tus
from webapp.jobs.models import Job, State
from webapp.jobs.services import job_retry
from webapp.projects.models import Project, User
from webapp.projects.services import project_create

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(django_db_blocker: DjangoDbBlocker) -> Iterator[House]:
    """Web, reaper and a worker that reads. Its data may lie on a disk of its own, which the tests can fill."""
    with django_db_blocker.unblock(), house(CRISTAE_TRAINER="process") as found:
        data = found.folder / "data"
        data.mkdir()
        mounted = mount(data, size="3g")
        found.start_web()
        found.start("reapjobs")
        found.start("work", "work", "--queues", "io")
        yield found
        if mounted:
            subprocess.run(["umount", "--lazy", data], check=True)


def mount(folder: Path, *, size: str, again: bool = False) -> bool:
    """A disk of a given size, in memory; it takes only what is written. False where that is not allowed."""
    options = f"{'remount,' if again else ''}size={size}"
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode == 0


@contextmanager
def full(data: Path, *, left: int) -> Iterator[None]:
    """The disk under `data` has `left` bytes, until the end of the block."""
    found = os.statvfs(data)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    assert mount(data, size=str(used + left), again=True)
    try:
        yield
    finally:
        assert mount(data, size="3g", again=True)


@pytest.fixture
def standing(built: House) -> House:
    """No projects, jobs or files of the test before."""
    built.ensure("web", "web", "--port", str(built.port))
    built.ensure("work", "work", "--queues", "io")
    wait_until(built._answers, what="the web to answer")
    Job.objects.all().delete()
    Project.objects.all().delete()
    User.objects.all().delete()
    Blob.objects.all().delete()
    for path in blob_files():
        path.unlink()
    return built


@pytest.fixture
def alice(standing: House) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def dataset(alice: User) -> Dataset:
    return services.dataset_create(project=project_create(user=alice, name="Mito"), user=alice, name="Lucchi")


@pytest.fixture
def browser(standing: House, alice: User) -> Browser:
    return Browser(standing.port, alice)


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("CRISTAE_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"CRISTAE_TEST_SEED={seed}")
    return random.Random(seed)


def blob_files() -> list[Path]:
    return [path for path in Path(settings.BLOBS).rglob("*") if path.is_file()]


def images_of(dataset: Dataset) -> set[str]:
    return set(Item.objects.filter(dataset=dataset).values_list("image", flat=True))


def assert_nothing_is_half(dataset: Dataset, upload: Upload) -> None:
    assert not dataset.revisions.exists()
    assert not Item.objects.filter(dataset=dataset).exists()
    assert upload.report == {}
    assert uploads_spool.spool_path(upload.pk).stat().st_size == upload.length, "what has arrived is still there"


def test_a_file_cut_at_twenty_random_places_arrives_whole(
    browser: Browser, dataset: Dataset, chance: random.Random, tmp_path: Path
) -> None:
    source = stack(tmp_path / "stack.tif", slices=12, size=1024)
    path = begin(browser, dataset, length=source.stat().st_size, name="stack.tif")
    begun = send_cut(browser, path, source, chance)
    assert len(set(begun)) > CUTS / 2, "most lines brought something"
    upload = read(row(path))
    assert (upload.state, upload.report["added"]) == ("done", 12)
    digest = sha256_of(source)
    assert images_of(dataset) == {digest}
    assert sha256_of(Path(settings.BLOBS) / digest[:2] / digest) == digest
    assert not uploads_spool.spool_path(upload.pk).exists()


@pytest.mark.parametrize("count", [6, pytest.param(20, marks=pytest.mark.chaos)])
def test_the_same_file_by_many_clients_at_once_is_kept_once(
    standing: House, alice: User, dataset: Dataset, tmp_path: Path, count: int
) -> None:
    other = services.dataset_create(project=dataset.project, user=alice, name="Kasthuri")
    source = stack(tmp_path / "cell.tif", slices=1, size=1024)
    content = source.read_bytes()
    clients = [Browser(standing.port, alice) for _ in range(count)]

    def send(number: int) -> str:
        path = begin(clients[number], other if number % 2 else dataset, length=len(content), name="cell.tif")
        status, _, body = clients[number].patch(path, content, offset=0)
        assert status == 204, body
        return path

    with ThreadPoolExecutor(count) as pool:
        paths = list(pool.map(send, range(count)))
    uploads = [read(row(path)) for path in paths]
    assert {upload.state for upload in uploads} == {"done"}
    for one in (dataset, other):
        reports = [upload.report for upload in uploads if upload.dataset_id == one.pk]
        assert sorted(report["added"] for report in reports) == [0] * (count // 2 - 1) + [1]
        assert [report["refused"] for report in reports] == [[]] * (count // 2)
        assert one.revisions.get().items_count == Item.objects.filter(dataset=one).count() == 1
    assert [path.name for path in blob_files()].count(sha256_of(source)) == 1
    assert [path.name for path in blob_files() if not path.stat().st_size or path.name.startswith(".")] == []
    assert list(Path(settings.SPOOL).iterdir()) == []


def test_one_upload_by_twenty_clients_at_once_has_one_writer_at_a_time(
    standing: House, alice: User, dataset: Dataset, tmp_path: Path
) -> None:
    source = stack(tmp_path / "cell.tif", slices=1, size=1024)
    content = source.read_bytes()
    clients = [Browser(standing.port, alice) for _ in range(20)]
    path = begin(clients[0], dataset, length=len(content), name="cell.tif")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda client: client.patch(path, content, offset=0), clients))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) <= {204, 409, 413, 423}, statuses
    assert all(body for status, _, body in answers if status != 204), "each refusal has a sentence"
    at = offset_of(clients[0], path)
    if at < len(content):
        assert clients[0].patch(path, content[at:], offset=at)[0] == 204
    assert read(row(path)).report["added"] == 1
    assert images_of(dataset) == {sha256_of(source)}


def need_own_disk(house: House) -> Path:
    data = house.folder / "data"
    if not os.path.ismount(data):
        pytest.skip("A full disk is made with `mount -t tmpfs`, which this machine does not allow.")
    return data


def test_a_disk_that_fills_up_under_a_piece_is_said_and_the_upload_goes_on_once_there_is_space(
    standing: House, browser: Browser, dataset: Dataset, tmp_path: Path
) -> None:
    data = need_own_disk(standing)
    source = stack(tmp_path / "stack.tif", slices=20, size=1024)
    content = source.read_bytes()
    path = begin(browser, dataset, length=len(content), name="stack.tif")
    with full(data, left=tus.COMMIT_BYTES + 3_000_000):
        with send_part(browser, path, source, start=0, stop=0, promised=len(content)) as raw:
            status, sentence = send_until_answered(raw, content)
        assert (status, sentence) == (
            507,
            "The server's disk is full. What has arrived is kept; free some space and continue.",
        )
        at = offset_of(browser, path)
        assert tus.COMMIT_BYTES <= at < len(content)
        assert Upload.objects.get().state == "receiving"
        assert browser.patch(path, content[at:], offset=at)[0] == 507, "and again, as long as it is so"
        at = offset_of(browser, path)
    assert browser.patch(path, content[at:], offset=at)[0] == 204
    assert read(row(path)).report["added"] == 20
    assert images_of(dataset) == {sha256_of(source)}


def send_until_answered(raw: socket.socket, content: bytes) -> tuple[int, str]:
    """Sends until the server has had enough; its answer and its sentence."""
    with suppress(ConnectionError):
        raw.sendall(content)
    answer = http.client.HTTPResponse(raw)
    answer.begin()
    return answer.status, answer.read().decode()


@pytest.mark.parametrize(
    "left",
    [pytest.param(0, id="before it begins", marks=pytest.mark.chaos), pytest.param(3_000_000, id="under the files")],
)
def test_a_disk_that_is_full_while_an_upload_is_read_is_said_and_reading_goes_on_once_there_is_space(
    standing: House, browser: Browser, dataset: Dataset, alice: User, left: int
) -> None:
    data = need_own_disk(standing)
    standing.stop("work")
    rng = np.random.default_rng(3)
    images = {f"{n}.tif": tiff(rng.integers(0, 255, (1000, 1000), dtype=np.uint8)) for n in range(8)}
    content = zipped(images)
    path = begin(browser, dataset, length=len(content), name="cells.zip")
    assert browser.patch(path, content, offset=0)[0] == 204
    with full(data, left=left):
        standing.start("work", "work", "--queues", "io")
        upload = read(row(path))
        assert upload.job.state == State.FAILED
        assert "is full. Free some space, then start" in upload.job.reason
        assert_nothing_is_half(dataset, upload)
        page = browser.request("GET", f"/datasets/{dataset.pk}/")[2].decode()
        assert "is full. Free some space, then start" in page
        assert f"/jobs/{upload.job.pk}/retry/" in page
    assert job_retry(upload.job, user=alice)
    assert read(upload).report["added"] == 8
    assert images_of(dataset) == {hashlib.sha256(image).hexdigest() for image in images.values()}
    assert not uploads_spool.spool_path(upload.pk).exists()


def test_a_web_server_that_is_killed_in_the_middle_of_a_piece_costs_what_was_not_committed(
    standing: House, browser: Browser, dataset: Dataset, tmp_path: Path
) -> None:
    source = stack(tmp_path / "stack.tif", slices=30, size=1024)
    length = source.stat().st_size
    path = begin(browser, dataset, length=length, name="stack.tif")
    sent = 2 * tus.COMMIT_BYTES + 5_000_000
    spool = uploads_spool.spool_path(row(path).pk)
    raw = send_part(browser, path, source, start=0, stop=sent, promised=length)
    wait_until(lambda: spool.stat().st_size > row(path).offset >= 2 * tus.COMMIT_BYTES, what="bytes past the offset")
    standing.services["web"].kill()
    standing.services["web"].wait()
    raw.close()
    written, committed = spool.stat().st_size, row(path).offset
    assert written > committed
    standing.start_web()
    assert offset_of(browser, path) == committed
    # Whatever lies past the offset is not trusted, even where it is as it was sent.
    with open(spool, "r+b") as file:
        file.seek(committed)
        file.write(os.urandom(written - committed))
    with open(source, "rb") as file:
        file.seek(committed)
        piece = file.read(2**20)
    assert browser.patch(path, piece, offset=committed)[0] == 204
    assert spool.stat().st_size == committed + len(piece), "bytes past the offset were cut off"
    at = offset_of(browser, path)
    with send_part(browser, path, source, start=at, stop=length, promised=length) as last:
        assert b" 204 " in last.recv(4096).split(b"\r\n")[0]
    assert read(row(path)).report["added"] == 30
    assert images_of(dataset) == {sha256_of(source)}
