"""The page of a job, and what it fetches."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from ml_core.specs import from_preset
from tests.webapp.artifacts import keep
from tests.webapp.conftest import EventMaker, JobMaker, Page
from tests.webapp.markup import markup_without_chance
from webapp.jobs.models import Job, State
from webapp.projects.models import User


@pytest.fixture
def client(seen_by: Page, bob: User) -> Client:
    return seen_by(bob)


@pytest.mark.parametrize("state", State)
def test_the_page_stands_in_every_state_and_offers_what_may_be_done(
    client: Client, make_job: JobMaker, state: State
) -> None:
    job = make_job("pretrain", state, reason="Because of a reason.")
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert f'class="chip {state}"' in page
    assert "Because of a reason." in page
    offered = {
        "pause": state in ("waiting", "queued", "running"),
        "resume": state == "paused",
        "retry": state in ("failed", "cancelled"),
        "extend": state == "done",
        "cancel": state not in ("done", "failed", "cancelled"),
    }
    for action, wanted in offered.items():
        assert (f'action="/jobs/{job.pk}/{action}/"' in page) is wanted, action
    assert f"?clone={job.pk}" in page
    for word in ("None", "nan", "NaN", "null<", "0 of 0"):
        assert word not in markup_without_chance(page)


def test_a_failure_says_its_sentence_and_what_is_kept(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.FAILED, reason="The loss is not finite at step 812.", checkpoint_step=800)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "The loss is not finite at step 812. The checkpoint of step 800 is kept." in page
    assert '<details id="log-details" open>' in page


def test_an_action_that_comes_too_late_says_so_and_changes_nothing(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.DONE)
    answer = client.post(f"/jobs/{job.pk}/pause/", follow=True)
    assert "The job is done by now, so there was nothing to pause." in answer.content.decode()
    job.refresh_from_db()
    assert job.state == State.DONE


def test_cancel_pause_and_resume_reach_the_queue(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.QUEUED)
    for action, state in (("pause", State.PAUSED), ("resume", State.QUEUED), ("cancel", State.CANCELLED)):
        assert client.post(f"/jobs/{job.pk}/{action}/").headers["Location"] == f"/jobs/{job.pk}/"
        job.refresh_from_db()
        assert job.state == state


def test_extend_makes_a_job_of_its_own_and_refuses_nonsense(client: Client, make_job: JobMaker) -> None:
    spec = from_preset("pretrain", "quick", views="byol").model_dump(mode="json")  # needs no colours
    job = make_job("pretrain", State.DONE, spec=spec)
    answer = client.post(f"/jobs/{job.pk}/extend/", {"epochs": "5"})
    made = Job.objects.get(extends=job)
    assert answer.headers["Location"] == f"/jobs/{made.pk}/"
    assert made.spec["epochs"] == job.spec["epochs"] + 5
    for nonsense in ("many", "0", ""):
        answer = client.post(f"/jobs/{job.pk}/extend/", {"epochs": nonsense}, follow=True)
        assert "Enter the number of epochs" in answer.content.decode()
    assert Job.objects.filter(extends=job).count() == 1


def test_an_unknown_action_is_not_found_and_a_get_changes_nothing(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.QUEUED)
    assert client.post(f"/jobs/{job.pk}/explode/").status_code == 404
    assert client.get(f"/jobs/{job.pk}/cancel/").status_code == 405
    job.refresh_from_db()
    assert job.state == State.QUEUED


def test_events_come_in_pages_of_two_thousand_in_order(
    client: Client, make_job: JobMaker, say: EventMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("pretrain", State.RUNNING)
    ids = [say(job, "point", name="loss/train", step=n, value=1 / n).pk for n in range(1, 6)]
    monkeypatch.setattr("webapp.jobs.pages.downloads.EVENTS_AT_ONCE", 3)
    first = client.get(f"/jobs/{job.pk}/events.json").json()
    assert [e["id"] for e in first["events"]] == ids[:3]
    assert first["more"] is True
    assert first["job"]["id"] == job.pk
    rest = client.get(f"/jobs/{job.pk}/events.json?after={first['cursor']}").json()
    assert [e["id"] for e in rest["events"]] == ids[3:]
    assert rest["more"] is False
    assert client.get(f"/jobs/{job.pk}/events.json?after={rest['cursor']}").json()["events"] == []
    assert client.get(f"/jobs/{job.pk}/events.json?after=nonsense").status_code == 200


def test_the_csv_has_each_step_once_by_its_newest_attempt_and_exactly(
    client: Client, make_job: JobMaker, say: EventMaker
) -> None:
    job = make_job("pretrain", State.DONE, record={"steps_per_epoch": 4, "total_steps": 8})
    say(job, "point", name="loss/train", step=2, value=0.1 + 0.2, low=0.1, high=0.5)
    say(job, "point", name="loss/train", step=4, value=9.0)
    say(job, "point", name="loss/train", step=4, value=8.0, epoch=2)
    say(job, "point", name="loss/train", step=6, value=None, data={"reason": "nan"}, epoch=2)
    answer = client.get(f"/jobs/{job.pk}/points.csv")
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["step"], r["value"], r["attempt"], r["epoch"]) for r in rows] == [
        ("2", repr(0.1 + 0.2), "1", "0.5000"),
        ("4", "8.0", "2", "1.0000"),
        ("6", "nan", "2", "1.5000"),
    ]


def test_the_log_comes_from_the_newest_attempt_or_from_the_row(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.RUNNING, log_tail="kept in the row")
    assert client.get(f"/jobs/{job.pk}/log.txt").content == b"kept in the row"
    folder = Path(settings.JOBS) / f"job-{job.pk}" / "epoch-1"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes(b"one\ntwo \xff\nthree\n")
    answer = client.get(f"/jobs/{job.pk}/log.txt?lines=2")
    assert answer.content.decode() == "two \N{REPLACEMENT CHARACTER}\nthree"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_only_pictures_are_shown_in_place_and_nothing_runs(client: Client, make_job: JobMaker, say: EventMaker) -> None:
    job = make_job("segment", State.DONE)
    picture = keep(job, say, b"\x89PNG", name="sample.png", media_type="image/png")
    answer = client.get(f"/artifacts/{picture.pk}/sample.png")
    assert b"".join(answer.streaming_content) == b"\x89PNG"  # type: ignore[attr-defined]
    assert answer.headers["Content-Disposition"].startswith("inline")
    for media_type in ("text/html", "image/svg+xml", "text/csv"):
        file = keep(job, say, b"<script>alert(1)</script>", name='a"<b>.html', media_type=media_type)
        answer = client.get(f"/artifacts/{file.pk}/x")
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "<" not in answer.headers["Content-Disposition"]


def test_a_picture_that_the_browser_has_is_not_sent_again_and_a_stranger_gets_none(
    client: Client, seen_by: Page, charlie: User, make_job: JobMaker, say: EventMaker
) -> None:
    picture = keep(make_job(), say, b"\x89PNG", name="a.png", media_type="image/png")
    path = f"/artifacts/{picture.pk}/a.png"
    tag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert seen_by(charlie).get(path, headers={"If-None-Match": tag}).status_code == 404
    for suffix in ("events.json", "points.csv", "log.txt"):
        assert seen_by(charlie).get(f"/jobs/{picture.job_id}/{suffix}").status_code == 404


def test_the_page_hands_its_script_data_that_cannot_break_out(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.RUNNING, name="</script><script>alert(1)</script>")
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "<script>alert" not in page
    block = re.search(r'<script id="page" type="application/json">(.*?)</script>', page, re.S)
    assert block
    data = json.loads(block[1])
    assert data["id"] == job.pk
    (reference,) = data["references"]
    assert reference["value"] == pytest.approx(128**-0.5)
    assert reference["label"] == "healthy, 1/√128"
