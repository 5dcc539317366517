"""Uploads over a real server: pieces, cuts, refusals."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from tests.webapp.datasets.server import Browser, serving
from webapp.datasets import pieces, services
from webapp.datasets.models import Dataset, Upload
from webapp.datasets.spool import Spool
from webapp.jobs.models import Job
from webapp.projects.models import Project, User

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def port(transactional_db: None) -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


@pytest.fixture
def browser(port: int, alice: User) -> Browser:
    return Browser(port, alice)


def begin(browser: Browser, dataset: Dataset, *, length: int, name: str = "slice.png") -> str:
    status, headers, body = browser.request(
        "POST",
        f"/datasets/{dataset.pk}/uploads/",
        Upload_Length=str(length),
        Upload_Metadata=f"filename {base64.b64encode(name.encode()).decode()}",
    )
    assert status == 201, body
    return headers["location"]


def row(path: str) -> Upload:
    return Upload.objects.get(pk=path.strip("/").split("/")[-1])


def until(true: Callable[[], bool], *, what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def offset_of(browser: Browser, path: str) -> int:
    status, headers, _ = browser.request("HEAD", path)
    assert status == 200
    return int(headers["upload-offset"])


def test_a_file_in_two_pieces_arrives_whole_and_is_handed_to_the_queue_once(browser, dataset):
    data = os.urandom(100_000)
    path = begin(browser, dataset, length=len(data), name="scans/μm 1.png")
    assert browser.patch(path, data[:60_000], offset=0)[:2][0] == 204
    assert offset_of(browser, path) == 60_000
    status, headers, _ = browser.patch(path, data[60_000:], offset=60_000)
    assert (status, headers["upload-offset"]) == (204, "100000")
    upload = row(path)
    assert services.spool_path(upload.pk).read_bytes() == data
    assert (upload.filename, upload.state) == ("scans/μm 1.png", "reading")
    job = Job.objects.get()
    assert (upload.job, job.kind, job.queue) == (job, "intake", "io")
    assert offset_of(browser, path) == 100_000
    assert Job.objects.count() == 1


def test_cut_connections_lose_at_most_what_was_in_the_air(browser, dataset):
    data = os.urandom(3_000_000)
    path = begin(browser, dataset, length=len(data))
    chance = random.Random(4)
    for _ in range(8):
        at = offset_of(browser, path)
        sent = chance.randint(1, 500_000)
        raw = browser.open_patch(path, offset=at, length=len(data) - at)
        raw.sendall(data[at : at + sent])
        if chance.random() < 0.5:  # Half of the cuts are rude: a reset instead of an end.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
        after = offset_of(browser, path)
        assert at <= after <= at + sent
        kept = services.spool_path(row(path).pk).read_bytes()[:after]
        assert kept == data[:after], "what counts as arrived is what was sent"
    at = offset_of(browser, path)
    assert browser.patch(path, data[at:], offset=at)[0] == 204
    assert services.spool_path(row(path).pk).read_bytes() == data


def test_bytes_are_kept_while_the_connection_still_stands(browser, dataset):
    data = os.urandom(pieces.COMMIT_BYTES + 3_000_000)
    path = begin(browser, dataset, length=len(data) + 10)
    raw = browser.open_patch(path, offset=0, length=len(data) + 10)
    raw.sendall(data)
    until(lambda: row(path).offset >= pieces.COMMIT_BYTES, what="committed on the way")
    raw.close()


def test_a_client_that_is_back_need_not_wait_for_its_dead_connection(browser, dataset):
    path = begin(browser, dataset, length=1000)
    dead = browser.open_patch(path, offset=0, length=1000)
    dead.sendall(b"a" * 400)
    spool = services.spool_path(row(path).pk)
    # Nothing is written below a full buffer; the server has the connection's 400 bytes once it has read them.
    began = time.monotonic()
    until(lambda: offset_of(browser, path) == 400 or time.monotonic() - began > 10, what="taken over")
    at = offset_of(browser, path)
    assert browser.patch(path, b"b" * (1000 - at), offset=at)[0] == 204
    assert spool.read_bytes() == b"a" * at + b"b" * (1000 - at)
    dead.close()


def test_what_lies_past_the_offset_in_the_file_is_cut_off(browser, dataset):
    path = begin(browser, dataset, length=6)
    services.spool_path(row(path).pk).write_bytes(b"torn bytes of a crashed server")
    assert browser.patch(path, b"whole!", offset=0)[0] == 204
    assert services.spool_path(row(path).pk).read_bytes() == b"whole!"


def test_wrong_pieces_are_refused_by_the_protocols_own_numbers(browser, dataset):
    path = begin(browser, dataset, length=10)
    assert browser.patch(path, b"12345", offset=5)[0] == 409
    assert browser.patch(path, b"x" * 11, offset=0)[0] == 413
    assert browser.patch(path, b"12345", offset=0, Tus_Resumable="0.2.2")[0] == 412
    assert browser.request("PATCH", path, b"12345", Upload_Offset="0", Content_Type="text/plain")[0] == 415
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert browser.patch(path, b"12345", offset=0, Upload_Checksum=f"sha256 {wrong}")[0] == 460
    assert row(path).offset == 0
    right = base64.b64encode(hashlib.sha256(b"12345").digest()).decode()
    assert browser.patch(path, b"12345", offset=0, Upload_Checksum=f"sha256 {right}")[0] == 204
    assert browser.request("DELETE", path)[0] == 204
    assert browser.patch(path, b"12345", offset=5)[0] == 410
    assert browser.request("HEAD", path)[0] == 410
    assert not services.spool_path(row(path).pk).exists()


def test_a_full_disk_is_said_and_keeps_what_came(browser, dataset, monkeypatch):
    path = begin(browser, dataset, length=10)

    def full(self: Spool, data: bytes, at: int) -> None:
        raise OSError(28, "No space left on device")

    assert browser.patch(path, b"12345", offset=0)[0] == 204
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "_write", full)
        status, _, body = browser.patch(path, b"67890", offset=5)
        assert (status, b"disk is full" in body) == (507, True)
    assert offset_of(browser, path) == 5
    assert browser.patch(path, b"67890", offset=5)[0] == 204


def test_only_members_who_may_write_can_send_pieces(port, browser, dataset, vera, charlie, bob):
    path = begin(browser, dataset, length=10)
    assert Browser(port, None).patch(path, b"12345", offset=0)[0] == 401
    assert Browser(port, charlie).patch(path, b"12345", offset=0)[0] == 404
    assert Browser(port, charlie).request("HEAD", path)[0] == 404
    assert Browser(port, vera).patch(path, b"12345", offset=0)[0] == 403
    assert row(path).offset == 0
    assert Browser(port, bob).patch(path, b"12345", offset=0)[0] == 204
    assert Browser(port, charlie).request("GET", path)[0] == 404
    assert Browser(port, vera).request("DELETE", path)[0] == 403


def test_a_piece_from_another_site_is_refused(browser, dataset):
    path = begin(browser, dataset, length=10)
    assert browser.patch(path, b"12345", offset=0, Origin="https://evil.example")[0] == 403
    assert browser.patch(path, b"12345", offset=0, X_CSRFToken="")[0] == 403
    assert row(path).offset == 0


def test_an_upload_that_cannot_go_in_is_refused_before_its_first_byte(browser, dataset, settings):
    address = f"/datasets/{dataset.pk}/uploads/"
    name = f"filename {base64.b64encode(b'../../evil.png').decode()}"
    status, _, body = browser.request("POST", address, Upload_Length="5", Upload_Metadata=name)
    assert (status, b"leads out" in body) == (400, True)
    good = f"filename {base64.b64encode(b'a.png').decode()}"
    assert browser.request("POST", address, Upload_Length="0", Upload_Metadata=good)[0] == 400
    settings.PROJECT_QUOTA = 1000
    status, _, body = browser.request("POST", address, Upload_Length="2000", Upload_Metadata=good)
    assert (status, b"CRISTAE_PROJECT_QUOTA_GB" in body) == (413, True)
    assert Upload.objects.count() == 0


def test_pages_of_errors_give_their_database_connection_back(port, dataset, charlie):
    stranger = Browser(port, charlie)
    for _ in range(6):
        assert stranger.request("GET", f"/datasets/{dataset.pk}/")[0] == 404
    pool = connection.pool
    until(lambda: pool.get_stats()["pool_available"] >= pool.get_stats()["pool_size"] - 1, what="only our own is out")
