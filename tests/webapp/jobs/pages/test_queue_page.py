"""The queue's page: who comes next and when, and moving."""

from __future__ import annotations

import datetime
import re

import pytest
from django.test import Client
from django.utils import timezone

from tests.webapp.conftest import JobMaker, Page
from tests.webapp.markup import words
from webapp.jobs import services
from webapp.jobs.lifecycle.queue_order import queued_jobs
from webapp.jobs.models import Job, State
from webapp.projects.models import Project, User

WORKER = {"host": "lab-2", "queue": "device", "slots": 1, "devices": ["cuda:0"], "seen_seconds": 2}
LEFT = {"stage": "", "done": 3, "total": 9, "unit": "steps", "left": 600.0}


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.jobs.lifecycle.heartbeats.workers", lambda: [WORKER])


@pytest.fixture
def theirs(db: None) -> Project:
    return Project.objects.create(name="Their project")


def on(**more: object) -> dict[str, object]:
    """A job that the GPU of lab-2 is at work on."""
    soon = timezone.now() + datetime.timedelta(seconds=60)
    return {"device": "cuda:0", "worker": "lab-2:77", "lease_until": soon, **more}


def _page(client: Client, path: str = "/queue/") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def _row(page: str, job: Job) -> str:
    """The text of the row of a queued job."""
    row = page[page.index(f'id="queued-{job.pk}"') :]
    return words(row[: row.index("</tr>")])


def _start(page: str, job: Job) -> datetime.datetime | None:
    row = page[page.index(f'id="queued-{job.pk}"') :]
    found = re.search(r'about <time datetime="([^"]+)"', row[: row.index("</tr>")])
    return datetime.datetime.fromisoformat(found[1]) if found else None


def test_each_queued_job_says_about_when_it_starts(seen_by: Page, alice: User, make_job: JobMaker) -> None:
    """The running one has 10 minutes left, and a run like the queued ones took 2."""
    make_job("segment", State.DONE)
    make_job("pretrain", State.RUNNING, progress=LEFT, **on())
    first, second = (make_job("segment", State.QUEUED, minutes=minutes) for minutes in (2, 1))
    before = timezone.now()
    page = _page(seen_by(alice))
    starts = [_start(page, job) for job in (first, second)]
    assert starts[0]
    assert starts[1]
    assert abs(starts[0] - before - datetime.timedelta(minutes=10)) < datetime.timedelta(seconds=30)
    assert starts[1] - starts[0] == datetime.timedelta(minutes=2)


def test_where_the_time_left_is_not_known_the_page_says_after_whom(
    seen_by: Page, alice: User, make_job: JobMaker
) -> None:
    make_job("segment", State.DONE)
    running = make_job("pretrain", State.RUNNING, progress={**LEFT, "stage": "Reading"}, **on())
    first, second = (make_job("segment", State.QUEUED, minutes=minutes) for minutes in (2, 1))
    page = _page(seen_by(alice))
    assert _start(page, first) is None
    assert f"after #{running.pk}" in _row(page, first)
    assert f"after #{first.pk}" in _row(page, second)


def test_behind_a_job_of_unknown_length_no_start_is_foretold(seen_by: Page, alice: User, make_job: JobMaker) -> None:
    make_job("segment", State.DONE)
    unknown = make_job("pretrain", State.QUEUED, minutes=3)
    second = make_job("segment", State.QUEUED, minutes=2)
    page = _page(seen_by(alice))
    assert _start(page, unknown), "the device is free"
    assert _start(page, second) is None


def test_what_a_silent_worker_said_last_foretells_nothing(seen_by: Page, alice: User, make_job: JobMaker) -> None:
    make_job("segment", State.DONE)
    make_job("pretrain", State.RUNNING, progress=LEFT, **on(lease_until=timezone.now()))
    queued = make_job("segment", State.QUEUED, minutes=2)
    page = _page(seen_by(alice))
    assert _start(page, queued) is None
    assert "no signal from the worker for" in page
    assert "left" not in page


def test_another_projects_job_says_who_and_how_long_and_names_nothing(
    seen_by: Page, alice: User, charlie: User, make_job: JobMaker, theirs: Project
) -> None:
    theirs.memberships.create(user=charlie, role="owner")
    make_job("pretrain", State.RUNNING, name="their secret", progress=LEFT, project=theirs, created_by=charlie, **on())
    queued = make_job("pretrain", State.QUEUED, name="secret too", project=theirs, created_by=charlie)
    page = _page(seen_by(alice))
    assert "A job of another project · about 10 min left" in page
    assert "charlie" in page
    assert "A job of another project" in _row(page, queued)
    assert "secret" not in page
    assert "GPU 0 of lab-2" in page
    assert "cuda" not in page.replace("cuda:0", "", 1), "the device's key stands in the filter alone"


def test_filters_stand_in_the_address_and_places_stay_those_of_the_whole_queue(
    seen_by: Page, alice: User, bob: User, make_job: JobMaker
) -> None:
    make_job("pretrain", State.QUEUED, name="bob's", minutes=3, created_by=bob)
    mine = make_job("pretrain", State.QUEUED, name="alice's", minutes=2)
    make_job("cam", State.QUEUED, name="the map", minutes=1)
    client = seen_by(alice)
    page = _page(client, "/queue/?whose=mine")
    assert "bob&#x27;s" not in page
    assert f"> 2 #{mine.pk} " in _row(page, mine)
    page = _page(client, "/queue/?device=interactive")
    assert "the map" in page
    assert "alice&#x27;s" not in page
    page = _page(client, "/queue/?device=lab-2+cuda%3A0&whose=mine")
    assert "the map" not in page
    assert "alice&#x27;s" in page
    assert "No job matches these filters" in _page(client, "/queue/?device=io&whose=mine")
    assert "the map" in _page(client, "/queue/?device=gone"), "a device that has gone filters nothing"


def test_an_editor_moves_a_job_and_the_page_shows_the_new_order(
    seen_by: Page, alice: User, bob: User, make_job: JobMaker
) -> None:
    first, second = (make_job("pretrain", State.QUEUED, minutes=minutes) for minutes in (2, 1))
    client = seen_by(bob)
    answer = client.post(f"/queue/{second.pk}/move/?whose=mine", {"where": "up"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/queue/?whose=mine")
    page = _page(seen_by(alice))
    assert page.index(f"queued-{second.pk}") < page.index(f"queued-{first.pk}")


def test_a_refused_move_says_why_in_one_sentence(seen_by: Page, bob: User, make_job: JobMaker, theirs: Project) -> None:
    make_job("pretrain", State.QUEUED, minutes=2, project=theirs)
    ours = make_job("pretrain", State.QUEUED, minutes=1)
    answer = seen_by(bob).post(f"/queue/{ours.pk}/move/", {"where": "front"})
    assert answer.status_code == 422
    sentence = (
        f"#{ours.pk} stays: the job before it is another project&#x27;s, and only an administrator moves past it."
    )
    assert sentence in answer.content.decode()


def test_a_viewer_moves_nothing_and_a_stranger_learns_nothing(
    seen_by: Page, vera: User, charlie: User, make_job: JobMaker
) -> None:
    jobs = [make_job("pretrain", State.QUEUED, minutes=minutes) for minutes in (2, 1)]
    for person, status in ((vera, 403), (charlie, 404)):
        client = seen_by(person)
        assert client.post(f"/queue/{jobs[1].pk}/move/", {"where": "up"}).status_code == status
        assert 'value="up"' not in _page(client)
    assert list(queued_jobs("device")) == jobs


def test_an_administrator_moves_any_job_and_reads_none_of_their_names(
    seen_by: Page, make_job: JobMaker, theirs: Project
) -> None:
    admin = User.objects.create_superuser("root", "root@example.org", "a long enough passphrase")
    ours = make_job("pretrain", State.QUEUED, name="ours", minutes=2)
    hidden = make_job("pretrain", State.QUEUED, name="their secret", minutes=1, project=theirs)
    client = seen_by(admin)
    assert client.post(f"/queue/{hidden.pk}/move/", {"where": "front"}).status_code == 302
    assert list(queued_jobs("device")) == [hidden, ours]
    refused = client.post(f"/queue/{hidden.pk}/move/", {"where": "up"})
    assert f"#{hidden.pk} is first already." in refused.content.decode()
    assert "secret" not in refused.content.decode()


def test_there_are_three_ways_to_move(seen_by: Page, bob: User, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.QUEUED)
    client = seen_by(bob)
    for where in ("sideways", ""):
        assert client.post(f"/queue/{job.pk}/move/", {"where": where}).status_code == 404
    assert services.job_cancel(job, user=bob)
    answer = client.post(f"/queue/{job.pk}/move/", {"where": "down"})
    assert f"#{job.pk} is not in the queue any more." in answer.content.decode()
