"""What came out of a job, and its pictures, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.webapp.artifacts import keep
from tests.webapp.conftest import EventMaker, JobMaker, dataset, make_job, revision, say
from webapp.datasets.models import Item, Revision
from webapp.jobs.models import Job, State
from webapp.projects.models import User

__all__ = ["dataset", "make_job", "revision", "say"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

TABLE = """threshold,precision,recall,foreground_iou
0,0.25,1,0.25
0.25,0.5,0.9,0.47
0.5,0.8,0.75,0.63
0.75,1,0.5,0.5
"""


@pytest.fixture
def judged(make_job: JobMaker, say: EventMaker) -> Job:
    job = make_job("segment", State.DONE, results={"foreground_iou": 0.6, "threshold": 0.5})
    keep(job, say, TABLE.encode(), name="precision-recall.csv", media_type="text/csv", part="validation")
    return job


def test_a_threshold_is_read_off_the_curve_by_keyboard(visit: Visit, alice: User, judged: Job) -> None:
    page = visit(alice, f"/jobs/{judged.pk}/")
    said = page.locator("#thresholds output")
    expect(said).to_contain_text("0.500 · precision 0.800 · recall 0.750 · foreground IoU 0.630")
    expect(said).to_contain_text("◆ the threshold of this job")
    # 0.5 x 1 + 0.25 x 0.8 + 0.15 x 0.5 + 0.1 x 0.25
    expect(page.locator("#thresholds .said")).to_contain_text("average precision 0.800")
    slider = page.get_by_role("slider", name="threshold")
    slider.focus()
    slider.press("End")
    expect(said).to_have_text("0.750 · precision 1.000 · recall 0.500 · foreground IoU 0.500")
    assert slider.get_attribute("aria-valuetext") == said.inner_text()


def test_the_curve_is_saved_with_its_job_its_threshold_and_its_axes_inside(
    visit: Visit, alice: User, judged: Job, tmp_path: Path
) -> None:
    page = visit(alice, f"/jobs/{judged.pk}/")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save precision and recall as SVG").click()
    download.value.save_as(tmp_path / "curve.svg")
    drawn = (tmp_path / "curve.svg").read_text()
    for words in (
        f"#{judged.pk} {judged.name} · Lucchi rev 3f9c",
        ">precision</text>",
        ">recall</text>",
        "◆ threshold 0.50",
    ):
        assert words in drawn


def test_a_table_that_cannot_be_read_says_so_where_the_curve_would_be(visit: Visit, alice: User, judged: Job) -> None:
    page = visit(alice, "/queue/")
    page.route("**/precision-recall.csv", lambda route: route.abort())
    page.goto(page.url.replace("/queue/", f"/jobs/{judged.pk}/"))
    expect(page.locator("#thresholds .plot")).to_contain_text("The table of thresholds could not be read.")


def test_the_worst_images_stand_in_a_row_that_scrolls_within_itself(
    visit: Visit, alice: User, make_job: JobMaker, revision: Revision
) -> None:
    facts = {"width": 8, "height": 8, "dtype": "uint8", "low": 0, "high": 255, "image": "0" * 64, "thumbnail": "0" * 64}
    names = [f"a_stack_with_a_long_name/slice_{n:04d}.png" for n in range(12)]
    Item.objects.bulk_create(
        Item(dataset=revision.dataset, added_in=1, position=n, name=name, **facts) for n, name in enumerate(names)
    )
    rows = [{"item": n, "name": name, "foreground_iou": n / 12} for n, name in enumerate(names)]
    page = visit(alice, f"/jobs/{make_job('segment', State.DONE, results={'per_image': rows}).pk}/", width=390)
    links = page.locator(".thumbs a")
    expect(links).to_have_count(12)
    expect(links.first).to_contain_text("0.000")
    links.last.focus()
    expect(links.last).to_be_in_viewport()
    root = page.locator(":root")
    assert root.evaluate("e => e.scrollWidth") == root.evaluate("e => e.clientWidth")


PANELS = {
    "size": [40, 60],
    "rows": [
        {"start": 10, "length": 16, "words": "slice_7, foreground IoU 0.700"},
        {"start": 36, "length": 16, "words": ""},
    ],
    "columns": [{"start": 2, "length": 16, "words": "image"}, {"start": 22, "length": 16, "words": "errors"}],
}


def test_the_page_writes_the_words_of_a_picture_beside_its_panels(
    visit: Visit, alice: User, make_job: JobMaker, say: EventMaker
) -> None:
    job = make_job("segment", State.DONE)
    for step, facts in ((5, {}), (10, {"panels": PANELS})):
        data = {"artifact": "sample", "name": f"{step}.png", "url": "/static/none.png", "step": step, "facts": facts}
        say(job, "artifact", step=step, data=data)
    page = visit(alice, f"/jobs/{job.pk}/")
    sheet = page.locator(".sheet")
    expect(sheet.locator("figcaption")).to_contain_text("step 10 · 2 of 2, the same images each time")
    panes = sheet.locator(".panes svg")
    expect(panes).to_have_count(4)
    assert panes.nth(1).get_attribute("viewBox") == "22 10 16 16"
    assert panes.nth(1).get_attribute("aria-label") == "slice_7, foreground IoU 0.700, errors"
    expect(sheet.locator(".headings")).to_have_text("imageerrors")
    expect(sheet.get_by_text("slice_7, foreground IoU 0.700")).to_be_visible()
    sheet.get_by_role("button", name="Earlier").focus()
    page.keyboard.press("Enter")
    expect(sheet.locator("figcaption")).to_contain_text("step 5 · 1 of 2")
    expect(sheet.locator("img")).to_have_attribute(
        "alt", "Image, mask, prediction, errors: step 5 · 1 of 2, the same images each time"
    )


def test_a_whole_hash_and_the_whole_record_are_copied(visit: Visit, alice: User, judged: Job) -> None:
    page = visit(alice, f"/jobs/{judged.pk}/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator("#record .hash").first
    button.click()
    expect(button).to_have_text("Copied")
    whole = button.get_attribute("data-copy")
    assert whole is not None
    assert page.evaluate("navigator.clipboard.readText()") == whole
    assert len(whole) == 64
    page.get_by_role("button", name="Copy as JSON").click()
    expect(page.locator("#record [data-copy-from]")).to_have_text("Copied")
    assert f'"id": {judged.pk},' in page.evaluate("navigator.clipboard.readText()")


def test_a_failed_jobs_log_is_open_at_the_line_of_the_error(visit: Visit, alice: User, make_job: JobMaker) -> None:
    lines = ["epoch"] * 300 + ["Traceback (most recent call last):", "RuntimeError: the pump broke"] + ["bye"] * 300
    job = make_job("segment", State.FAILED, reason="The trainer ended.", log_tail="\n".join(lines))
    page = visit(alice, f"/jobs/{job.pk}/")
    log = page.locator("#log-text")
    log.evaluate("e => e.scrollTop > 0 || new Promise(done => e.addEventListener('scroll', () => done(true)))")
    assert 1000 < log.evaluate("e => e.scrollTop") < log.evaluate("e => e.scrollHeight - e.clientHeight") - 1000
    expect(page.get_by_role("alert").get_by_role("link", name="Change and queue again")).to_be_visible()


def test_values_that_were_not_finite_are_marked_in_the_saved_figure_too(
    visit: Visit, alice: User, make_job: JobMaker, say: EventMaker, tmp_path: Path
) -> None:
    job = make_job("segment", State.FAILED)
    for step in (1, 2, 3):
        say(job, "point", name="loss/train", step=step, value=1 / step)
    say(job, "point", name="loss/train", step=4, value=None, data={"reason": "nan"})
    page = visit(alice, f"/jobs/{job.pk}/")
    expect(page.locator(".chart .values")).to_contain_text("train not finite")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save loss as SVG").click()
    download.value.save_as(tmp_path / "loss.svg")
    assert "nan, step 4" in (tmp_path / "loss.svg").read_text()
