"""What an upload is refused for, each by the protocol's own number; what has arrived stays. And how uploads end."""

from __future__ import annotations

import base64
import contextlib
import datetime
import fcntl
import hashlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from tests.counting import wait_until
from tests.webapp.datasets.server import Browser, begin, offset_of, row
from webapp.datasets.models import Dataset, Upload
from webapp.datasets.uploads import services as uploads_services
from webapp.datasets.uploads import spool
from webapp.datasets.uploads import spool as uploads_spool
from webapp.jobs.models import Job, State

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]  # real requests, and tables emptied after each

LATE = datetime.timedelta(seconds=1)


@pytest.fixture
def path(browser: Browser, dataset: Dataset) -> str:
    """Ten bytes are to come, and five are here."""
    begun = begin(browser, dataset, length=10)
    assert browser.patch(begun, b"12345", offset=0)[0] == 204
    return begun


def still_takes_the_rest(browser: Browser, path: str) -> bool:
    assert offset_of(browser, path) == 5
    assert browser.patch(path, b"67890", offset=5)[0] == 204
    return uploads_spool.spool_path(row(path).pk).read_bytes() == b"1234567890"


@pytest.mark.parametrize("offset", [0, 4, 6, 10, 11, 10**17])
def test_409_a_piece_that_does_not_begin_where_the_bytes_end(browser: Browser, path: str, offset: int) -> None:
    status, headers, body = browser.patch(path, b"12", offset=offset)
    assert (status, headers["upload-offset"]) == (409, "5")
    assert body.decode() == f"The piece begins at byte {offset:,}, and 5 bytes are here."
    assert still_takes_the_rest(browser, path)


def test_410_an_upload_that_was_given_up(browser: Browser, path: str) -> None:
    assert browser.request("DELETE", path)[0] == 204
    assert not uploads_spool.spool_path(row(path).pk).exists()
    for answer in (browser.patch(path, b"67890", offset=5), browser.request("DELETE", path)):
        assert (answer[0], b"discarded" in answer[2]) == (410, True)
    assert browser.request("HEAD", path)[0] == 410


def test_410_an_upload_whose_bytes_are_gone_from_the_disk(browser: Browser, path: str) -> None:
    uploads_spool.spool_path(row(path).pk).unlink()
    status, _, body = browser.patch(path, b"67890", offset=5)
    assert (status, body.decode()) == (410, "The bytes of this upload are gone. Send the file again.")


@pytest.mark.parametrize("spoken", ["0.2.2", "1.0.1", ""])
def test_412_another_version_of_the_protocol(browser: Browser, path: str, spoken: str) -> None:
    for method in ("PATCH", "HEAD", "DELETE"):
        status, headers, _ = browser.request(method, path, Tus_Resumable=spoken)
        assert (method, status, headers["tus-version"]) == (method, 412, "1.0.0")
    assert still_takes_the_rest(browser, path)


def test_413_a_piece_that_reaches_past_the_end(browser: Browser, path: str) -> None:
    status, _, body = browser.patch(path, b"67890-", offset=5)
    assert (status, b"past the end of slice.png" in body) == (413, True)
    assert still_takes_the_rest(browser, path)


def test_415_a_piece_of_another_type(browser: Browser, path: str) -> None:
    assert browser.request("PATCH", path, b"67890", Upload_Offset="5", Content_Type="text/plain")[0] == 415
    assert still_takes_the_rest(browser, path)


def test_423_an_upload_that_another_process_writes_to(
    browser: Browser, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "WAIT_SECONDS", 0.2)
    with open(uploads_spool.spool_path(row(path).pk), "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        status, _, body = browser.patch(path, b"67890", offset=5)
        assert (status, body.decode()) == (423, "Another connection is sending this upload.")
        assert offset_of(browser, path) == 5, "where it is can be asked meanwhile"
    assert still_takes_the_rest(browser, path)


def test_423_a_connection_that_another_has_taken_over_from(browser: Browser, path: str) -> None:
    first = browser.open_patch(path, offset=5, length=5)
    first.sendall(b"67")
    wait_until(lambda: offset_of(browser, path) == 7, what="the second to take over with all that came")
    assert said(first) == (423, "Another connection has taken over this upload.")
    assert browser.patch(path, b"890", offset=7)[0] == 204


def said(raw: socket.socket) -> tuple[int, str]:
    head, _, body = raw.recv(4096).decode().partition("\r\n\r\n")
    return int(head.split()[1]), body or raw.recv(4096).decode()


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_460_a_piece_that_was_damaged_on_its_way(browser: Browser, path: str, algorithm: str) -> None:
    checksum = base64.b64encode(hashlib.new(algorithm, b"67890").digest()).decode()
    status, _, body = browser.patch(path, b"67899", offset=5, Upload_Checksum=f"{algorithm} {checksum}")
    assert (status, body.decode()) == (460, "The piece was damaged in transfer: its checksum differs.")
    assert offset_of(browser, path) == 5
    assert browser.patch(path, b"67890", offset=5, Upload_Checksum=f"{algorithm} {checksum}")[0] == 204
    assert uploads_spool.spool_path(row(path).pk).read_bytes() == b"1234567890"


def asked_for(browser: Browser, dataset: Dataset, *, length: int, name: bytes = b"a.png") -> tuple[int, str]:
    status, _, body = browser.request(
        "POST",
        f"/datasets/{dataset.pk}/uploads/",
        Upload_Length=str(length),
        Upload_Metadata=f"filename {base64.b64encode(name).decode()}",
    )
    return status, body.decode()


def test_a_name_that_leads_out_and_an_empty_file_are_refused_before_their_first_byte(
    browser: Browser, dataset: Dataset
) -> None:
    status, sentence = asked_for(browser, dataset, length=5, name=b"../../evil.png")
    assert (status, "leads out" in sentence) == (400, True)
    assert asked_for(browser, dataset, length=0) == (
        400,
        "a.png was left out: the file is empty (0 bytes). Export it again.",
    )
    assert Upload.objects.count() == 0


def test_a_file_above_the_projects_quota_is_refused_before_its_first_byte(
    browser: Browser, dataset: Dataset, settings: object
) -> None:
    settings.PROJECT_QUOTA = 10**9  # type: ignore[attr-defined]
    begin(browser, dataset, length=7 * 10**8)
    assert asked_for(browser, dataset, length=4 * 10**8) == (
        413,
        "a.png would bring the project above its 1 GB. Ask the server's administrator to raise "
        "CRISTAE_PROJECT_QUOTA_GB.",
    )
    Upload.objects.update(state=Upload.State.ABANDONED)
    assert asked_for(browser, dataset, length=4 * 10**8)[0] == 201, "what was given up takes no room"
    assert Upload.objects.count() == 2


def test_uploads_that_begin_at_once_stay_under_the_quota_together(
    browser: Browser, dataset: Dataset, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one could be looked at before the other is entered, both would find room."""
    settings.PROJECT_QUOTA = 1000  # type: ignore[attr-defined]
    look, both_have_looked = uploads_services._check_room, threading.Barrier(2)

    def look_and_wait(*given: object, **named: object) -> None:
        look(*given, **named)  # type: ignore[arg-type]
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_looked.wait(0.5)

    monkeypatch.setattr(uploads_services, "_check_room", look_and_wait)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: asked_for(browser, dataset, length=600)[0], range(2)))
    assert sorted(answers) == [201, 413]


def test_an_upload_that_nobody_goes_on_with_is_swept_and_a_younger_one_is_not(
    browser: Browser, dataset: Dataset, path: str
) -> None:
    younger = begin(browser, dataset, length=10)
    late = row(path)
    Upload.objects.filter(pk=late.pk).update(expires_at=timezone.now() - LATE)
    assert uploads_services.uploads_sweep() == 1
    late.refresh_from_db()
    assert (late.state, row(younger).state) == ("abandoned", "receiving")
    assert [uploads_spool.spool_path(row(each).pk).exists() for each in (path, younger)] == [False, True]
    assert browser.patch(path, b"67890", offset=5)[0] == 410
    assert browser.patch(younger, b"1234567890", offset=0)[0] == 204
    assert uploads_services.uploads_sweep() == 0


@pytest.mark.parametrize("ended", [State.FAILED, State.CANCELLED])
def test_an_upload_that_could_not_be_read_is_kept_for_another_try_and_then_swept(
    browser: Browser, path: str, ended: State
) -> None:
    browser.patch(path, b"67890", offset=5)
    upload = row(path)
    spooled = uploads_spool.spool_path(upload.pk)
    Job.objects.update(state=ended)
    assert uploads_services.uploads_sweep() == 0
    assert spooled.exists()
    Upload.objects.update(expires_at=timezone.now() - LATE)
    Job.objects.update(state=State.QUEUED)
    assert uploads_services.uploads_sweep() == 0, "its reading has begun again"
    assert spooled.exists()
    Job.objects.update(state=ended)
    assert uploads_services.uploads_sweep() == 1
    upload.refresh_from_db()
    assert (upload.state, spooled.exists()) == ("failed", False)


def test_an_upload_whose_last_piece_comes_while_it_is_swept_keeps_its_bytes(
    browser: Browser, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has looked, and only then the rest arrives."""
    upload = row(path)
    Upload.objects.update(expires_at=timezone.now() - LATE)
    first_look = uploads_services.timezone.now

    def now() -> datetime.datetime:
        if looks.pop():
            Upload.objects.filter(pk=upload.pk).update(state=Upload.State.READING)
        return first_look()

    looks = [False, False, True, False]  # of what is received: the look, then the change, and so on
    monkeypatch.setattr(uploads_services.timezone, "now", now)
    assert uploads_services.uploads_sweep() == 0
    assert uploads_spool.spool_path(upload.pk).exists()


def test_bytes_of_a_dataset_that_is_gone_are_swept_once_they_are_old(
    browser: Browser, dataset: Dataset, path: str
) -> None:
    spooled = uploads_spool.spool_path(row(path).pk)
    note = Path(settings.SPOOL) / "read me"
    note.write_text("somebody's own")
    dataset.delete()
    uploads_services.uploads_sweep()
    assert spooled.exists(), "a row may be on its way into the database"
    then = time.time() - uploads_services.UPLOAD_LIFE.total_seconds() - 1
    for file in (spooled, note):
        os.utime(file, (then, then))
    uploads_services.uploads_sweep()
    assert (spooled.exists(), note.exists()) == (False, True)
