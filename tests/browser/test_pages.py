"""Every page in a real browser: nothing overflows, nothing is asked of others, the form and the theme work."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.webapp.conftest import JobMaker, dataset, make_job, revision
from webapp.datasets.models import Revision
from webapp.experiments.services import experiment_start
from webapp.jobs.models import Job, State
from webapp.projects.models import Project, User

__all__ = ["dataset", "make_job", "revision"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_scrolls_sideways_or_has_targets_too_small_to_hit(
    visit: Visit, alice: User, make_job: JobMaker, project: Project, revision: Revision, width: int, theme: str
) -> None:
    experiment = experiment_start(project=project, user=alice, preset="quick", revision=revision)
    long = "A name of a job that somebody wrote out in full so that nobody would mistake it for another one"
    failed = make_job("segment", State.FAILED, name=long, reason="14 masks hold the value 38, which no class uses.")
    running = make_job("pretrain", State.RUNNING, progress={"done": 3, "total": 9, "unit": "steps", "left": 90})
    done = make_job("segment", State.DONE, results={"foreground_iou": 0.84, "foreground_iou_interval": [0.8, 0.9]})
    paths = ["/", "/queue/", "/doctor/", "/account/", "/projects/new/", "/search/?q=a", f"/projects/{project.pk}/"]
    paths += [f"/jobs/{job.pk}/" for job in (failed, running, done)]
    paths += [f"/experiments/{experiment.pk}/", f"/projects/{project.pk}/jobs/new/?kind=pretrain"]
    page = visit(alice, "/", width=width, theme=theme)
    root = page.url
    for path in paths:
        page.goto(root.rstrip("/") + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        small = page.evaluate(
            """[...document.querySelectorAll("button, select, summary, .button, input:not(.unseen)")]
            .filter((e) => e.checkVisibility() && e.type !== "checkbox" && e.type !== "radio")
            .filter((e) => e.getBoundingClientRect().height < 24 || e.getBoundingClientRect().width < 24)
            .map((e) => e.outerHTML.slice(0, 100))"""
        )
        assert small == [], path


def test_a_preset_fills_the_fields_and_each_change_is_marked_and_weighed(
    visit: Visit, alice: User, project: Project, revision: Revision
) -> None:
    page = visit(alice, f"/projects/{project.pk}/jobs/new/?kind=segment&preset=paper")
    expect(page.locator("#changed")).to_have_text("as the preset paper")
    page.get_by_label("quick").check()
    expect(page.get_by_label("Architecture")).to_have_value("resnet18")
    page.get_by_label("Epochs").fill("0")
    page.get_by_label("Epochs").press("Tab")
    expect(page.locator("#changed")).to_have_text("1 field differs from quick")
    expect(page.locator("#preflight")).to_contain_text("1 to 10,000 epochs.")
    page.get_by_role("button", name="Queue job").click()
    expect(page.locator("#refusals")).to_be_focused()
    expect(page.get_by_label("Epochs")).to_have_value("0")
    page.locator("#refusals").get_by_role("link", name="Epochs").click()
    expect(page.get_by_label("Epochs")).to_be_focused()
    page.get_by_label("Epochs").fill("3")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#state .chip")).to_have_text("Queued")
    job = Job.objects.get()
    assert (job.spec["epochs"], job.spec["preset"], job.spec["encoder"]) == (3, "quick", "resnet18")


def test_choosing_one_of_the_networks_to_map_empties_the_others(
    visit: Visit, alice: User, project: Project, make_job: JobMaker
) -> None:
    encoder, segmenter = make_job("pretrain", State.DONE), make_job("segment", State.DONE)
    page = visit(alice, f"/projects/{project.pk}/jobs/new/?kind=cam")
    expect(page.locator("#slot-segmenter")).to_have_value(f"job-{segmenter.pk}-segmenter")
    expect(page.locator("#slot-encoder")).to_have_value("")
    page.locator("#slot-encoder").select_option(f"job-{encoder.pk}-encoder")
    expect(page.locator("#slot-segmenter")).to_have_value("")


def test_the_theme_is_kept_and_the_next_page_comes_in_it(visit: Visit, alice: User) -> None:
    page = visit(alice, "/queue/")
    page.get_by_role("button", name="You and your settings").click()
    page.get_by_text("Dark", exact=True).click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 26)"


def test_keys_lead_to_places_and_can_be_turned_off(visit: Visit, alice: User) -> None:
    page = visit(alice, "/doctor/")
    page.keyboard.press("g")
    page.keyboard.press("q")
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.locator("#search").press("Escape")
    page.get_by_role("button", name="You and your settings").click()
    page.get_by_label("Single keys").uncheck()
    page.keyboard.press("Escape")
    page.locator("#content").focus()
    page.keyboard.press("/")
    expect(page.locator("#search")).not_to_be_focused()


def test_the_queue_follows_by_itself_and_keeps_what_it_shows_when_the_server_fails(
    visit: Visit, alice: User, make_job: JobMaker
) -> None:
    job = make_job("pretrain", State.QUEUED, name="the one that moves")
    page = visit(alice, "/queue/")
    expect(page.get_by_role("link", name="the one that moves")).to_be_visible()
    page.route("**/queue/", lambda route: route.fulfill(status=500, body="<div id=queue>broken</div>"))
    with page.expect_response("**/queue/"):
        pass
    expect(page.get_by_role("link", name="the one that moves")).to_be_visible()
    page.unroute("**/queue/")
    Job.objects.filter(pk=job.pk).update(state=State.RUNNING, started_at=job.queued_at, epoch=1)
    expect(page.locator(".running-job")).to_contain_text("the one that moves")
