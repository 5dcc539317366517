"""Home, project, search: what stands where, and for whom."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.webapp.conftest import JobMaker, Page
from webapp.datasets.models import Dataset, Revision
from webapp.jobs.models import State
from webapp.projects.models import Project, User


def _page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


def test_a_newcomer_is_shown_the_first_step(seen_by: Page, charlie: User) -> None:
    page = _page(seen_by(charlie), "/")
    assert "Begin with a project" in page
    assert "/projects/new/" in page


def test_making_a_project_makes_its_owner_and_leads_to_the_data(seen_by: Page, charlie: User) -> None:
    client = seen_by(charlie)
    answer = client.post("/projects/new/", {"name": "Liver"})
    made = Project.objects.get(name="Liver")
    assert answer.headers["Location"] == f"/projects/{made.pk}/"
    page = _page(client, f"/projects/{made.pk}/")
    assert "No data yet" in page
    assert f"/projects/{made.pk}/datasets/new/" in page


def test_a_project_without_a_name_is_refused_with_a_sentence(seen_by: Page, charlie: User) -> None:
    answer = seen_by(charlie).post("/projects/new/", {"name": " "})
    assert answer.status_code == 422
    assert "Give the project a name." in answer.content.decode()


def test_home_says_what_runs_what_failed_and_what_to_do_next(
    seen_by: Page, alice: User, make_job: JobMaker, revision: Revision
) -> None:
    make_job(
        "pretrain",
        State.RUNNING,
        name="BYOL, colour",
        step=107,
        progress={"stage": "", "done": 107, "total": 900, "unit": "steps", "rate": 14.2, "left": 1320},
        record={"steps_per_epoch": 9, "total_steps": 900},
    )
    make_job("colorize", State.FAILED, reason="14 masks hold the value 38, which no class uses.")
    page = _page(seen_by(alice), "/")
    assert "BYOL, colour" in page
    assert "epoch 12 of 100 · 14 steps/s · about 22 min left" in page
    assert "14 masks hold the value 38" in page
    assert "Segment Lucchi" in page
    assert "no segmentation yet" in page


def test_a_job_before_its_first_progress_says_so_and_not_zero_of_zero(
    seen_by: Page, alice: User, make_job: JobMaker
) -> None:
    make_job("pretrain", State.RUNNING, progress={"stage": "Reading", "done": 12, "total": 0, "unit": "files"})
    page = _page(seen_by(alice), "/")
    assert "Reading: 12 files so far" in page
    assert "of 0" not in page


def test_others_jobs_and_projects_are_not_on_ones_pages(
    seen_by: Page, charlie: User, make_job: JobMaker, dataset: Dataset
) -> None:
    job = make_job("pretrain", State.RUNNING, name="Secret run")
    client = seen_by(charlie)
    for path in ("/", "/search/?q=secret", f"/search/?q={job.pk}", "/queue/"):
        page = _page(client, path)
        assert "Secret run" not in page
        assert "Lucchi" not in page
        assert "Mito" not in page


@pytest.mark.parametrize("path", ["/projects/{project}/", "/projects/{project}/jobs/new/", "/jobs/{job}/"])
def test_a_stranger_gets_the_same_404_as_for_nothing(
    seen_by: Page, charlie: User, make_job: JobMaker, path: str
) -> None:
    job = make_job()
    for project, number in ((job.project_id, job.pk), (10**9, 10**9)):
        answer = seen_by(charlie).get(path.format(project=project, job=number))
        assert answer.status_code == 404
        assert "not a member" in answer.content.decode()


def test_the_best_segmentation_stands_with_its_interval_images_and_floor(
    seen_by: Page, vera: User, make_job: JobMaker
) -> None:
    make_job("segment", State.DONE, name="Worse", results={"foreground_iou": 0.7})
    best = {
        "foreground_iou": 0.8423,
        "foreground_iou_interval": [0.81, 0.87],
        "mean_iou": 0.91,
        "floor": 0.471,
        "images": 33,
        "groups": 1,
        "part": "test",
    }
    job = make_job("segment", State.DONE, name="Better", results=best)
    page = _page(seen_by(vera), f"/projects/{job.project_id}/")
    card = page[page.index("Best so far") : page.index("Datasets</h2>")]
    assert "Better" in card
    assert "Worse" not in card
    for fact in ("0.842", "[0.81, 0.87]", "33 images", "1 stack", "test split", "predict nothing: 0.471", "quick"):
        assert fact in card


def test_a_viewer_is_offered_no_change(seen_by: Page, vera: User, revision: Revision, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.RUNNING)
    client = seen_by(vera)
    page = _page(client, f"/projects/{job.project_id}/")
    assert "New job" not in page
    assert "Add a dataset" not in page
    page = _page(client, f"/jobs/{job.pk}/")
    assert "Cancel job" not in page
    answer = client.get(f"/projects/{job.project_id}/jobs/new/")
    assert answer.status_code == 403
    assert "Ask its owner to make you an editor" in answer.content.decode()
    assert client.post(f"/jobs/{job.pk}/cancel/").status_code == 403


def test_jobs_are_filtered_by_the_address_and_paged_by_their_number(
    seen_by: Page, alice: User, make_job: JobMaker
) -> None:
    jobs = [make_job("segment", State.DONE, name=f"run {n:03d}") for n in range(55)]
    make_job("pretrain", State.FAILED, name="the failed one")
    client = seen_by(alice)
    base = f"/projects/{jobs[0].project_id}/"
    first = _page(client, base + "?state=done")
    assert "run 054" in first
    assert "run 005" in first
    assert "run 004" not in first
    assert "the failed one" not in first
    second = _page(client, base + f"?state=done&before={jobs[5].pk}")
    assert "run 004" in second
    assert "Older jobs" not in second
    assert "No job matches these filters" in _page(client, base + "?kind=cam")


def test_search_finds_a_job_by_its_number_and_names_by_their_parts(
    seen_by: Page, alice: User, make_job: JobMaker
) -> None:
    job = make_job("segment", State.DONE, name="U-Net, ImageNet")
    client = seen_by(alice)
    assert "U-Net, ImageNet" in _page(client, f"/search/?q=%23{job.pk}")
    page = _page(client, "/search/?q=lucc")
    assert "Lucchi" in page
    assert "None of your projects, datasets or jobs" in _page(client, "/search/?q=zebra")


def test_the_theme_of_the_cookie_is_in_the_first_byte_of_the_page(seen_by: Page, alice: User) -> None:
    client = seen_by(alice)
    assert 'data-theme="dark"' not in _page(client, "/")
    client.cookies["theme"] = "dark"
    assert '<html lang="en" data-theme="dark">' in _page(client, "/")
    client.cookies["theme"] = '"><script>'
    assert "<script>" not in _page(client, "/")


def test_no_page_needs_an_inline_script_or_style(seen_by: Page, alice: User, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.RUNNING, progress={"done": 1, "total": 9, "unit": "steps"})
    client = seen_by(alice)
    paths = ["/", "/queue/", "/doctor/", "/account/", f"/projects/{job.project_id}/", f"/jobs/{job.pk}/"]
    for path in [*paths, f"/projects/{job.project_id}/jobs/new/"]:
        page = _page(client, path)
        assert " style=" not in page
        assert "<style" not in page
        assert " on" + "click=" not in page
        assert "[document" not in page  # a filter of htmx would need eval
        scripts = page.split("<script")[1:]
        assert all('type="module"' in s or 'type="application/json"' in s for s in scripts)


def test_home_offers_upload_and_a_new_job_in_the_project_at_work_and_never_where_one_may_only_look(
    seen_by: Page, alice: User, vera: User, make_job: JobMaker
) -> None:
    job = make_job()
    empty = Project.objects.create(name="Aardvark")
    empty.memberships.create(user=alice, role="owner")
    page = _page(seen_by(alice), "/")
    assert f"/projects/{job.project_id}/datasets/new/" in page
    assert "New job in Mito" in page
    page = _page(seen_by(vera), "/")
    assert "New job" not in page.replace("new job</dd>", "")
    assert "Upload micrographs</a>" not in page


def test_what_failed_stands_first_among_what_ended_with_its_whole_sentence(
    seen_by: Page, alice: User, make_job: JobMaker
) -> None:
    sentence = "Batch 20 of 512 px needs about 19 GiB; GPU 0 has 11.2 GiB free. " * 3 + "Nothing was trained."
    make_job("segment", State.FAILED, name="the failed one", minutes=50, reason=sentence)
    for n in range(9):
        make_job("segment", State.DONE, name=f"done {n}", minutes=9 - n)
    page = _page(seen_by(alice), "/")
    ended = page[page.index("Ended in the last 3 days") :]
    assert ended.index("1 failed") < ended.index("9 done")
    assert ended.index("the failed one") < ended.index("done 8") < ended.index("done 2")
    assert sentence in ended


def test_a_running_job_shows_what_it_has_reached_and_its_best_with_the_epoch(
    seen_by: Page, alice: User, make_job: JobMaker
) -> None:
    iou = {"name": "foreground_iou/validation", "value": 0.838, "best": 0.842, "best_step": 310}
    record = {"steps_per_epoch": 10, "total_steps": 2000}
    job = make_job("segment", State.RUNNING, watched=iou, record=record)
    make_job("pretrain", State.RUNNING, watched={"name": "loss/train", "value": 0.412})
    client = seen_by(alice)
    home = _page(client, "/")
    assert "validation foreground IoU 0.838, best 0.842 @ epoch 31" in home
    assert "loss 0.412" in home
    table = _page(client, f"/projects/{job.project_id}/")
    assert "0.842 @ epoch 31" in table


GPU = {
    "host": "lab-2",
    "queue": "device",
    "slots": 2,
    "devices": ["cuda:0", "cuda:1"],
    "gpus": {"cuda:0": {"name": "NVIDIA H200", "used": 61 * 10**9, "total": 150 * 10**9}},
    "seen_seconds": 3,
}


def test_each_device_is_named_and_is_free_or_says_whose_job_it_has(
    seen_by: Page, alice: User, bob: User, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = {"host": "lab-2", "queue": "io", "slots": 2, "devices": ["cpu"], "seen_seconds": 90}
    monkeypatch.setattr("webapp.jobs.lifecycle.heartbeats.workers", lambda: [GPU, helper])
    job = make_job("pretrain", State.RUNNING, device="cuda:0", worker="lab-2:77", created_by=bob)
    card = _devices(_page(seen_by(alice), "/"))
    assert "GPU 0 of lab-2, NVIDIA H200" in card
    assert f"#{job.pk} A pretrain job" in card
    assert "bob" in card
    assert "61 GB of 150 GB in use" in card
    assert card.index("GPU 1 of lab-2") < card.index("free")
    assert card.count("free<") == 1
    assert "The worker of lab-2 for reading files has been silent since" in card
    assert "cuda" not in card


def test_another_projects_job_keeps_a_device_busy_without_its_name(
    seen_by: Page, charlie: User, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.jobs.lifecycle.heartbeats.workers", lambda: [GPU])
    Project.objects.create(name="Charlie's own").memberships.create(user=charlie, role="owner")
    left = {"stage": "", "done": 1, "total": 9, "unit": "steps", "left": 90}
    job = make_job("pretrain", State.RUNNING, name="secret", device="cuda:0", worker="lab-2:77", progress=left)
    card = _devices(_page(seen_by(charlie), "/"))
    assert "a job of another project" in card
    assert "alice" in card
    assert "about 1 min 30 s left" in card
    assert "secret" not in card
    assert f"#{job.pk}" not in card


def test_a_device_whose_worker_is_silent_is_not_called_free(
    seen_by: Page, alice: User, revision: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "webapp.jobs.lifecycle.heartbeats.workers", lambda: [{**GPU, "devices": ["cpu"], "seen_seconds": 95}]
    )
    card = _devices(_page(seen_by(alice), "/"))
    assert "CPU of lab-2" in card
    assert "Its worker has been silent since" in card
    assert "free" not in card


def _devices(page: str) -> str:
    return page[page.index("Devices</h2>") : page.index("Projects</h2>", page.index("Devices</h2>"))]
