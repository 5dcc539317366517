"""Uploads over a real server: pieces, cuts, refusals."""

from __future__ import annotations

import base64
import datetime
import os
import random
import socket
import struct
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.utils import timezone
from tusclient.client import TusClient

from tests.webapp.datasets.server import Browser, begin, offset_of, row
from webapp.datasets.models import Upload
from webapp.datasets.uploads import services, tus
from webapp.datasets.uploads import spool as uploads_spool
from webapp.datasets.uploads.spool import Spool
from webapp.jobs.models import Job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]  # real requests, and tables emptied after each


def until(true: Callable[[], bool], *, what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_file_in_two_pieces_arrives_whole_and_is_handed_to_the_queue_once(browser, dataset):
    data = os.urandom(100_000)
    path = begin(browser, dataset, length=len(data), name="scans/μm 1.png")
    assert browser.patch(path, data[:60_000], offset=0)[:2][0] == 204
    assert offset_of(browser, path) == 60_000
    status, headers, _ = browser.patch(path, data[60_000:], offset=60_000)
    assert (status, headers["upload-offset"]) == (204, "100000")
    upload = row(path)
    assert uploads_spool.spool_path(upload.pk).read_bytes() == data
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
        kept = uploads_spool.spool_path(row(path).pk).read_bytes()[:after]
        assert kept == data[:after], "what counts as arrived is what was sent"
    at = offset_of(browser, path)
    assert browser.patch(path, data[at:], offset=at)[0] == 204
    assert uploads_spool.spool_path(row(path).pk).read_bytes() == data


def test_bytes_are_kept_while_the_connection_still_stands(browser, dataset):
    data = os.urandom(tus.COMMIT_BYTES + 3_000_000)
    path = begin(browser, dataset, length=len(data) + 10)
    raw = browser.open_patch(path, offset=0, length=len(data) + 10)
    raw.sendall(data)
    until(lambda: row(path).offset >= tus.COMMIT_BYTES, what="committed on the way")
    kept = uploads_spool.spool_path(row(path).pk).read_bytes()[: tus.COMMIT_BYTES]
    assert kept == data[: tus.COMMIT_BYTES]
    raw.close()


def test_a_client_that_is_back_need_not_wait_for_its_dead_connection(browser, dataset):
    path = begin(browser, dataset, length=1000)
    dead = browser.open_patch(path, offset=0, length=1000)
    dead.sendall(b"a" * 400)
    spool = uploads_spool.spool_path(row(path).pk)
    # Nothing is written below a full buffer; the server has the connection's 400 bytes once it has read them.
    began = time.monotonic()
    until(lambda: offset_of(browser, path) == 400 or time.monotonic() - began > 10, what="taken over")
    at = offset_of(browser, path)
    assert browser.patch(path, b"b" * (1000 - at), offset=at)[0] == 204
    assert spool.read_bytes() == b"a" * at + b"b" * (1000 - at)
    dead.close()


def test_what_lies_past_the_offset_in_the_file_is_cut_off(browser, dataset):
    path = begin(browser, dataset, length=6)
    uploads_spool.spool_path(row(path).pk).write_bytes(b"torn bytes of a crashed server")
    assert browser.patch(path, b"whole!", offset=0)[0] == 204
    assert uploads_spool.spool_path(row(path).pk).read_bytes() == b"whole!"


def test_a_piece_outside_the_protocol_is_told_what_it_lacks(browser, dataset):
    path = begin(browser, dataset, length=10)
    for number in ("", "-1", "5.0", "²", "1" * 30):
        headers = {"Content_Type": "application/offset+octet-stream", "Upload_Offset": number}
        assert browser.request("PATCH", path, b"12345", **headers)[0] == 400, number
    for checksum in ("sha256 !!!", "md5 " + base64.b64encode(b"x" * 16).decode(), "sha256"):
        assert browser.patch(path, b"12345", offset=0, Upload_Checksum=checksum)[0] in (400, 460), checksum
    assert row(path).offset == 0
    nothing = path.replace(row(path).pk.hex[:8], "00000000")
    for method in ("HEAD", "PATCH", "DELETE", "OPTIONS"):
        assert browser.request(method, nothing)[0] in (404, 415), method
    assert browser.patch(nothing, b"1", offset=0)[0] == 404


def test_every_answer_says_which_tus_is_spoken_and_another_is_turned_away(browser, dataset, vera):
    address = f"/datasets/{dataset.pk}/uploads/"
    path = begin(browser, dataset, length=10)
    answers = [
        browser.request("OPTIONS", address),
        browser.request("OPTIONS", path),
        browser.request("POST", address),
        browser.request("HEAD", path),
        browser.patch(path, b"1", offset=3),
        browser.request("HEAD", path[:-2] + "x/"),
        browser.request("DELETE", path.replace(row(path).pk.hex[:8], "00000000")),
        Browser(browser.port, vera).request("POST", address),
        browser.request("POST", path),
    ]
    assert [status for status, _, _ in answers] == [204, 204, 400, 200, 409, 404, 404, 403, 405]
    answers.pop(5)  # No upload's address: nothing of tus is there to answer.
    assert {headers.get("tus-resumable") for _, headers, _ in answers} == {"1.0.0"}
    can = answers[0][1]
    assert can["tus-extension"] == "creation,termination,expiration,checksum"
    assert (can["tus-version"], can["tus-checksum-algorithm"]) == ("1.0.0", "sha256,sha1")
    assert int(can["tus-max-size"]) == 2**40
    for method in ("POST", "HEAD", "PATCH", "DELETE"):
        status, headers, _ = browser.request(method, address if method == "POST" else path, Tus_Resumable="0.2.2")
        assert (method, status, headers["tus-version"]) == (method, 412, "1.0.0")
    assert row(path).state == "receiving"


def test_a_creation_that_cannot_be_is_refused_in_words(browser, dataset):
    address = f"/datasets/{dataset.pk}/uploads/"
    good = f"filename {base64.b64encode(b'a.png').decode()}"
    tried = {
        "from the start": (400, {"Upload_Defer_Length": "1", "Upload_Metadata": good}),
        "the number of bytes": (400, {"Upload_Length": "-5", "Upload_Metadata": good}),
        "1 TiB": (413, {"Upload_Length": str(2**40 + 1), "Upload_Metadata": good}),
        "up to 1 TiB": (413, {"Upload_Length": "9" * 5000, "Upload_Metadata": good}),
        "must name the file": (400, {"Upload_Length": "5"}),
        "Upload-Metadata must": (400, {"Upload_Length": "5", "Upload_Metadata": "filename =!="}),
    }
    for words, (status, headers) in tried.items():
        answer = browser.request("POST", address, **headers)
        assert (answer[0], words in answer[2].decode()) == (status, True), answer
    assert Upload.objects.count() == 0


def test_an_upload_says_what_it_is_called_and_until_when_it_waits(browser, dataset):
    path = begin(browser, dataset, length=10, name="μm.png")
    _, headers, _ = browser.request("HEAD", path)
    assert headers["upload-metadata"] == f"filename {base64.b64encode('μm.png'.encode()).decode()}"
    assert (headers["upload-length"], headers["cache-control"]) == ("10", "no-store")
    Upload.objects.update(expires_at=timezone.now() + datetime.timedelta(hours=1))
    _, headers, _ = browser.patch(path, b"12345", offset=0)
    left = parsedate_to_datetime(headers["upload-expires"]) - timezone.now()
    assert left > services.UPLOAD_LIFE - datetime.timedelta(minutes=1), "what comes puts the end off"
    Upload.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))
    assert browser.request("HEAD", path)[0] == 410
    assert browser.patch(path, b"67890", offset=5)[0] == 410


def test_where_only_post_gets_through_it_stands_for_patch_and_delete(browser, dataset):
    path = begin(browser, dataset, length=10)
    head = {"Content_Type": "application/offset+octet-stream", "Upload_Offset": "0"}
    assert browser.request("POST", path, b"12345", X_HTTP_Method_Override="PATCH", **head)[0] == 204
    assert offset_of(browser, path) == 5
    assert browser.request("POST", path, b"12345", X_HTTP_Method_Override="PATCH", X_CSRFToken="", **head)[0] == 403
    assert browser.request("POST", path, X_HTTP_Method_Override="DELETE")[0] == 204
    assert row(path).state == "abandoned"


def test_the_authors_own_client_goes_on_where_it_was_cut(port, browser, dataset, tmp_path):
    data = os.urandom(2_500_000)
    source = tmp_path / "scan.tif"
    source.write_bytes(data)
    client = TusClient(f"http://127.0.0.1:{port}/datasets/{dataset.pk}/uploads/", headers=browser.headers)
    words = {"metadata": {"filename": "scan.tif"}, "upload_checksum": True, "chunk_size": 400_000}
    first = client.uploader(str(source), **words)
    first.upload(stop_at=900_000)
    assert first.url is not None
    path = urlsplit(first.url).path
    assert 900_000 <= offset_of(browser, path) < len(data)
    second = client.uploader(str(source), url=first.url, **words)
    assert second.offset == offset_of(browser, path)
    second.upload()
    assert uploads_spool.spool_path(row(path).pk).read_bytes() == data
    assert (row(path).filename, row(path).state) == ("scan.tif", "reading")


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


def test_pages_of_errors_give_their_database_connection_back(port, dataset, charlie):
    stranger = Browser(port, charlie)
    for _ in range(6):
        assert stranger.request("GET", f"/datasets/{dataset.pk}/")[0] == 404
    pool = connection.pool
    until(lambda: pool.get_stats()["pool_available"] >= pool.get_stats()["pool_size"] - 1, what="only our own is out")
