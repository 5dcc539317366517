"""The doctor: what it finds of the real parts, what it says of those that are away, and its self-test."""

from __future__ import annotations

import datetime
import html
import threading
import time

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tests.webapp.conftest import JobMaker, Page
from webapp.doctor import selftest
from webapp.doctor.checks import CHECKS
from webapp.doctor.findings import Finding, examine
from webapp.jobs.lifecycle import heartbeats
from webapp.jobs.management.commands import reapjobs
from webapp.jobs.models import Job, State
from webapp.projects.models import User

GIB = 2**30


def _page(client: Client, path: str = "/doctor/") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def _worker(*, seen: int = 3, queue: str = "device", free: float = 20, **more: object) -> dict[str, object]:
    memory = {"free": int(free * GIB), "total": 32 * GIB}
    said = {"host": "lab-2", "queue": queue, "slots": 1, "devices": ["cuda:0"], "gpus": {}, "memory": memory}
    return {**said, "seen_seconds": seen, **more}


def test_the_doctor_finds_the_real_database_its_tables_and_the_broker_well(seen_by: Page, alice: User) -> None:
    findings = {finding.name: finding for finding in examine(CHECKS)}
    for name in ("Database", "Tables", "Clocks", "Broker"):
        assert findings[name].state == "done", findings[name]
    assert "free of" in findings["Disk"].sentence
    assert "PostgreSQL" in _page(seen_by(alice))


def test_a_check_that_cannot_run_says_so_and_is_not_well(
    seen_by: Page, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Finding:
        raise RuntimeError("the disk went away\nwith a traceback")

    monkeypatch.setitem(CHECKS, "Disk", broken)
    assert examine({"Database": CHECKS["Database"], "Disk": broken})[0].state == "failed"
    page = _page(seen_by(alice))
    assert "The check could not run: the disk went away" in page
    assert "with a traceback" not in page
    assert "needs you" in page or "need you" in page


@pytest.mark.slow
@pytest.mark.django_db
def test_a_part_that_hangs_is_given_up_and_holds_up_no_other() -> None:
    leave = threading.Event()

    def hangs() -> Finding:
        leave.wait()
        return Finding("Disk", "done", "Too late.")

    others = {name: CHECKS[name] for name in ("Database", "Front end")}
    try:
        findings = {finding.name: finding for finding in examine({"Disk": hangs, **others}, limit=1.0)}
    finally:
        leave.set()
    assert "no answer within 1 s" in findings["Disk"].sentence
    assert findings["Disk"].state == "failed"
    assert findings["Database"].state == "done"


@pytest.mark.django_db
def test_a_broker_that_is_away_is_a_finding_and_the_page_still_comes(
    seen_by: Page, alice: User, settings: Settings
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    page = _page(seen_by(alice))
    assert "Redis does not answer (Error 111" in page
    assert "Start Redis, or correct REDIS_URL." in page
    assert "Not known while the broker does not answer." in page
    assert "No worker has been heard from" in page


def test_no_worker_is_a_finding_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "workers", list)
    finding = CHECKS["Workers"]()
    assert finding.state == "failed"
    assert "manage.py work" in finding.remedy


def test_a_worker_that_fell_silent_is_missed_on_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = [_worker(seen=31), _worker(queue="io"), _worker(queue="interactive")]
    monkeypatch.setattr(heartbeats, "workers", lambda: heard)
    finding = CHECKS["Workers"]()
    assert finding.state == "warning"
    assert "No worker serves: device." in finding.sentence


def test_devices_say_their_driver_and_what_is_free_as_their_worker_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"name": "NVIDIA H200", "driver": "570.86", "used": 61 * GIB, "total": 139 * GIB}
    monkeypatch.setattr(heartbeats, "workers", lambda: [_worker(gpus={"cuda:0": gpu}, free=1.5)])
    says = CHECKS["Devices"]().sentence
    assert says == "GPU 0 of lab-2, NVIDIA H200, driver 570.86: 78.0 of 139 GiB free."
    memory = CHECKS["Memory"]()
    assert memory.sentence == "lab-2 has 1.5 of 32.0 GiB free."
    assert memory.state == "warning"


def test_a_reaper_that_is_gone_is_noticed_and_one_that_works_is_well(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "REAPER_KEY", f"test:{time.monotonic_ns()}")
    finding = CHECKS["Reaper"]()
    assert finding.state == "failed"
    assert "manage.py reapjobs" in finding.remedy

    class OneRound(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return True

    monkeypatch.setattr(reapjobs.signal, "signal", lambda *_: None)
    monkeypatch.setattr(reapjobs.threading, "Event", OneRound)
    reapjobs.Command().handle()
    assert CHECKS["Reaper"]().state == "done"


def test_the_findings_can_be_copied_as_text(seen_by: Page, alice: User) -> None:
    page = _page(seen_by(alice))
    copied = page[page.index('data-copy="') :].split('"')[1]
    assert copied.startswith("Cristae ")
    assert "[OK] Database: PostgreSQL" in copied


@pytest.mark.django_db
def test_anybody_may_ask_whether_the_server_lives_and_learns_no_more(client: Client) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"ok": True}


# --- the self-test ---


def _started(client: Client) -> str:
    return client.post("/doctor/self-test/").headers["Location"]


def test_a_self_test_waits_for_every_queue_and_says_what_came_back(seen_by: Page, alice: User) -> None:
    client = seen_by(alice)
    path = _started(client)
    assert _page(client, path).count("Waiting for a worker") == 3
    ticket = path.rstrip("/").rpartition("/")[2]
    for queue in ("io", "device"):
        selftest.selftest_note(ticket, queue=queue, host="lab-2")
    page = _page(client, path)
    assert page.count("The worker on lab-2 took the test") == 2
    assert "Its trainer is running" in page
    selftest.selftest_note(ticket, queue="device", code=1, said="A training step on cuda:0 failed.")
    page = _page(client, path)
    assert "Its trainer failed: A training step on cuda:0 failed." in page
    assert "hx-trigger" in page, "the third queue may still answer"
    selftest.selftest_note(ticket, queue="interactive", host="lab-2")
    assert "hx-trigger" not in _page(client, path)


def test_a_device_at_work_is_not_disturbed_for_its_job_shows_that_it_lives(
    seen_by: Page, alice: User, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "SOON_SECONDS", -1)
    soon = timezone.now() + datetime.timedelta(seconds=60)
    job = make_job("pretrain", State.RUNNING, lease_until=soon)
    client = seen_by(alice)
    path = _started(client)
    assert f"At work on #{job.pk}, seen just now" in _page(client, path)
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=60))
    assert f"At work on #{job.pk}" not in _page(client, path), "a silent worker shows nothing"


def test_nobody_on_a_queue_is_said_after_a_while(seen_by: Page, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "PATIENCE_SECONDS", -1)
    client = seen_by(alice)
    page = _page(client, _started(client))
    assert "No worker has taken the test" in page
    assert "manage.py work --queues io" in page


def test_a_self_test_without_a_broker_is_refused_with_a_sentence(
    seen_by: Page, alice: User, settings: Settings
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    answer = seen_by(alice).post("/doctor/self-test/", follow=True)
    assert "The self-test was not started" in answer.content.decode()


def test_a_self_test_that_is_forgotten_is_not_found(seen_by: Page, alice: User) -> None:
    assert seen_by(alice).get(f"/doctor/self-test/{'0' * 32}/").status_code == 404
    assert not selftest.selftest_note("0" * 32, queue="io", host="lab-2")
