"""Queue, experiment."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.webapp.conftest import JobMaker, Page
from webapp.datasets.models import Revision
from webapp.experiments.models import Experiment
from webapp.experiments.services import experiment_start
from webapp.jobs.models import Job, State
from webapp.projects.models import Project, User


def _page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_queue_keeps_its_order_and_names_reasons(seen_by: Page, alice: User, make_job: JobMaker) -> None:
    make_job("pretrain", State.RUNNING, name="now running", device="cuda:0")
    make_job("pretrain", State.QUEUED, name="the later one", minutes=1)
    make_job("pretrain", State.QUEUED, name="the earlier one", minutes=2)
    make_job("segment", State.WAITING, name="the waiting one", reason="Waits for #7.")
    make_job("segment", State.PAUSED, name="the paused one", checkpoint_step=8000)
    page = _page(seen_by(alice), "/queue/")
    places = [
        page.index(word)
        for word in ("now running", "the earlier one", "the later one", "the waiting one", "the paused one")
    ]
    assert places == sorted(places)
    assert "Waits for #7." in page
    assert "checkpoint at step 8,000" in page


def test_another_projects_job_holds_its_place_without_a_name(
    seen_by: Page, alice: User, bob: User, make_job: JobMaker
) -> None:
    other = Project.objects.create(name="Their project")
    make_job("pretrain", State.QUEUED, name="their secret", minutes=9, project=other)
    make_job("pretrain", State.QUEUED, name="ours", minutes=1)
    page = _page(seen_by(alice), "/queue/")
    assert "their secret" not in page
    assert "Their project" not in page
    assert page.index("A job of another project") < page.index("ours")


def test_an_empty_queue_says_so_and_a_silent_one_says_that_jobs_are_safe(
    seen_by: Page, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.jobs.lifecycle.heartbeats.workers", list)
    page = _page(seen_by(alice), "/queue/")
    assert "The queue is empty" in page
    assert "Queued jobs wait and are safe" in page


def test_a_viewer_sees_a_paused_job_without_the_button(seen_by: Page, vera: User, make_job: JobMaker) -> None:
    make_job("segment", State.PAUSED, name="the paused one")
    page = _page(seen_by(vera), "/queue/")
    assert "the paused one" in page
    assert "Resume" not in page


def test_the_whole_study_is_four_jobs_each_taking_from_the_one_before(
    alice: User, project: Project, revision: Revision
) -> None:
    experiment = experiment_start(project=project, user=alice, preset="quick", revision=revision)
    colorize, pretrain, segment, cam = experiment.jobs.order_by("pk")
    assert [j.kind for j in (colorize, pretrain, segment, cam)] == ["colorize", "pretrain", "segment", "cam"]
    assert pretrain.inputs["colour"] == {"job": colorize.pk, "artifact": "colour"}
    assert segment.inputs["encoder"] == {"job": pretrain.pk, "artifact": "encoder"}
    assert cam.inputs["segmenter"] == {"job": segment.pk, "artifact": "segmenter"}
    assert [j.state for j in (colorize, pretrain, segment, cam)] == ["queued", "waiting", "waiting", "waiting"]
    assert pretrain.spec["views"] != "byol"
    assert {j.inputs["dataset"]["revision"] for j in experiment.jobs.all()} == {revision.pk}
    assert list(cam.after.all()) == [segment]


def test_one_button_starts_the_study_and_its_page_shows_the_chain(
    seen_by: Page, bob: User, revision: Revision, project: Project
) -> None:
    client = seen_by(bob)
    answer = client.post(
        f"/projects/{project.pk}/experiments/new/", {"dataset": revision.dataset_id, "preset": "quick"}
    )
    made = Experiment.objects.get()
    assert answer.headers["Location"] == f"/experiments/{made.pk}/"
    Job.objects.filter(kind="segment").update(state=State.DONE, results={"foreground_iou": 0.712, "images": 8})
    page = _page(client, f"/experiments/{made.pk}/")
    assert "1 of 4 done" in page
    assert "0.712" in page
    assert "8 images" in page


def test_a_study_without_images_or_with_an_unknown_preset_is_refused_and_leaves_nothing(
    seen_by: Page, bob: User, revision: Revision, project: Project
) -> None:
    client = seen_by(bob)
    sent = {"dataset": revision.dataset_id, "preset": "heroic"}
    client.post(f"/projects/{project.pk}/experiments/new/", sent)
    revision.delete()
    client.post(f"/projects/{project.pk}/experiments/new/", {**sent, "preset": "quick"})
    assert not Experiment.objects.exists()
    assert not Job.objects.exists()


def test_a_viewer_starts_no_study_and_a_stranger_sees_none(
    seen_by: Page, vera: User, alice: User, charlie: User, revision: Revision, project: Project
) -> None:
    sent = {"dataset": revision.dataset_id, "preset": "quick"}
    assert seen_by(vera).post(f"/projects/{project.pk}/experiments/new/", sent).status_code == 403
    assert seen_by(charlie).post(f"/projects/{project.pk}/experiments/new/", sent).status_code == 404
    made = experiment_start(project=project, user=alice, preset="quick", revision=revision)
    assert seen_by(charlie).get(f"/experiments/{made.pk}/").status_code == 404
    assert seen_by(vera).get(f"/experiments/{made.pk}/").status_code == 200
