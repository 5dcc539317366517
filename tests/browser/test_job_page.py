"""The live page of a job in a real browser, where sockets do not get through."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Route, expect

from tests.browser.conftest import Visit
from tests.webapp.conftest import EventMaker, JobMaker, dataset, make_job, revision, say
from webapp.jobs.models import Job, State
from webapp.projects.models import User

__all__ = ["dataset", "make_job", "revision", "say"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

BEGAN = datetime.datetime(2026, 3, 5, 14, 0, tzinfo=datetime.UTC)


def _at(seconds: float) -> datetime.datetime:
    return BEGAN + datetime.timedelta(seconds=seconds)


@pytest.fixture
def resumed(make_job: JobMaker, say: EventMaker) -> Job:
    """A job that was at step 8, and began again from step 4 with other values."""
    job = make_job("pretrain", State.RUNNING, record={"steps_per_epoch": 4, "total_steps": 40}, step=6)
    say(job, "attempt", time=_at(0), data={"number": 1, "resumed_step": None})
    for step in (2, 4, 6, 8):
        say(job, "point", name="loss/train", step=step, value=1.0, time=_at(step))
    say(job, "attempt", epoch=2, time=_at(100), data={"number": 2, "resumed_step": 4})
    say(job, "point", name="loss/train", step=6, value=0.5, epoch=2, time=_at(102))
    say(job, "point", name="embedding_std", step=6, value=0.05, epoch=2, time=_at(102))
    return job


def test_replayed_steps_replace_and_never_double(visit: Visit, alice: User, resumed: Job) -> None:
    page = visit(alice, f"/jobs/{resumed.pk}/")
    expect(page.locator(".chart canvas")).to_have_count(2)
    page.get_by_label("Table").check()
    rows = page.locator("#points tbody tr")
    expect(rows).to_have_count(4)
    assert rows.all_inner_texts() == ["8\t1\t", "6\t0.5\t0.05", "4\t1\t", "2\t1\t"]
    expect(page.locator("#notes")).to_contain_text("Attempt 2 started again from step 4.")


def test_running_time_leaves_the_pause_out_and_clock_time_does_not(visit: Visit, alice: User, resumed: Job) -> None:
    page = visit(alice, f"/jobs/{resumed.pk}/")
    expect(page.locator("#readout")).to_have_text("latest step 8")
    page.locator("select[name=x]").select_option("epoch")
    expect(page.locator("#readout")).to_have_text("latest epoch 2.00")
    page.locator("select[name=x]").select_option("running")
    expect(page.locator("#readout")).to_have_text("latest 10 s")  # 8 s, then 2 s; not 102 s


def test_arrows_walk_along_the_points_and_e_goes_to_the_best(
    visit: Visit, alice: User, make_job: JobMaker, say: EventMaker
) -> None:
    job = make_job("segment", State.DONE, record={"steps_per_epoch": 10, "total_steps": 50})
    for step, value in ((10, 0.4), (20, 0.8), (30, 0.7)):
        say(job, "point", name="foreground_iou/validation", step=step, value=value)
    page = visit(alice, f"/jobs/{job.pk}/")
    values = page.locator(".chart .values")
    expect(values).to_have_text("validation 0.700best 0.800 @ epoch 2")
    page.keyboard.press("e")
    expect(page.locator("#readout")).to_have_text("at step 20")
    expect(values).to_contain_text("validation 0.800")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#readout")).to_have_text("at step 10")
    expect(values).to_contain_text("validation 0.400")


def test_points_pictures_and_the_new_state_come_without_a_reload(
    visit: Visit, alice: User, make_job: JobMaker, say: EventMaker
) -> None:
    job = make_job("pretrain", State.RUNNING)
    page = visit(alice, f"/jobs/{job.pk}/")
    expect(page.get_by_text("Starting: the first point comes after the first steps.")).to_be_visible()
    page.evaluate("window.sameDocument = true")
    say(job, "point", name="loss/train", step=5, value=0.25)
    say(job, "artifact", step=5, data={"artifact": "pairs", "name": "pairs.png", "step": 5, "url": "/static/none.png"})
    say(job, "note", data={"text": "The embedding has collapsed.", "level": "warning"})
    expect(page.locator(".chart .values")).to_have_text("train 0.25")
    expect(page.locator("#sheets figcaption")).to_contain_text("step 5")
    expect(page.locator("#notes .warning")).to_contain_text("The embedding has collapsed.")
    Job.objects.filter(pk=job.pk).update(
        state=State.DONE, ended_at=timezone.now(), results={"loss": 0.25, "embedding_std": 0.0612}
    )
    expect(page.locator("#state .chip")).to_have_text("Done")
    expect(page.get_by_role("button", name="Extend")).to_be_visible()
    expect(page.locator("#results")).to_contain_text("0.061")
    assert page.evaluate("window.sameDocument") is True


def test_a_lost_link_says_since_when_and_loses_no_point(
    visit: Visit, alice: User, make_job: JobMaker, say: EventMaker
) -> None:
    job = make_job("pretrain", State.RUNNING)
    say(job, "point", name="loss/train", step=1, value=3.0)
    page = visit(alice, f"/jobs/{job.pk}/")
    expect(page.locator(".chart .values")).to_have_text("train 3")

    def cut(route: Route) -> None:
        route.abort()

    page.route("**/events.json*", cut)
    strip = page.locator("#lost")
    expect(strip).to_be_visible()
    expect(strip).to_contain_text("Live link lost at")
    for step in (2, 3):
        say(job, "point", name="loss/train", step=step, value=3.0 - step)
    page.unroute("**/events.json*", cut)
    expect(strip).to_be_hidden(timeout=30_000)
    page.get_by_label("Table").check()
    expect(page.locator("#points tbody tr")).to_have_count(3)


def test_a_figure_is_saved_with_its_job_and_preset_inside(
    visit: Visit, alice: User, resumed: Job, tmp_path: Path
) -> None:
    page = visit(alice, f"/jobs/{resumed.pk}/")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save loss as SVG").click()
    download.value.save_as(tmp_path / "loss.svg")
    drawn = (tmp_path / "loss.svg").read_text()
    assert f"#{resumed.pk} {resumed.name} · Lucchi rev 3f9c · preset quick" in drawn
    assert drawn.count('stroke-dasharray="2 3"') == 1  # the restart
    assert re.search(r">resumed [^<]+, step 4</text>", drawn)
    assert drawn.count(">loss</text>") == 2, "its title, and the name of its axis"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save loss as PNG").click()
    download.value.save_as(tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_cancel_asks_once_and_keep_running_keeps_it_running(visit: Visit, alice: User, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.QUEUED)
    page = visit(alice, f"/jobs/{job.pk}/")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Keep running").click()
    expect(page.get_by_role("button", name="Cancel job")).to_be_hidden()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel job").click()
    expect(page.locator("#state .chip")).to_have_text("Cancelled")
    job.refresh_from_db()
    assert job.state == State.CANCELLED


def test_a_map_whose_check_failed_carries_the_warning_on_itself(
    visit: Visit, alice: User, make_job: JobMaker, say: EventMaker
) -> None:
    job = make_job("cam", State.DONE)
    for name, drop, alike in (("good", 0.4, 0.1), ("same", 0.4, 0.95), ("idle", -0.1, 0.1)):
        facts = {"method": "gradcam", "confidence_drop": drop, "random_correlation": alike}
        data = {"artifact": "cam_sheet", "name": name, "url": "/static/none.png", "step": None, "facts": facts}
        say(job, "artifact", data=data)
    page = visit(alice, f"/jobs/{job.pk}/")
    sheets = page.locator(".sheet")
    expect(sheets).to_have_count(3)
    expect(sheets.nth(0).locator(".doubt")).to_be_hidden()
    expect(sheets.nth(1).locator(".doubt")).to_contain_text("Random weights give nearly the same map")
    expect(sheets.nth(2).locator(".doubt")).to_contain_text("does not lower the confidence")
