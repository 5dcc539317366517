"""Jobs are moved in the queue by button and by key, and whoever looks on sees it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.webapp.conftest import JobMaker, dataset, make_job, revision
from webapp.jobs.lifecycle.queue_order import queued_jobs
from webapp.jobs.models import Job, State
from webapp.projects.models import Project, User

__all__ = ["dataset", "make_job", "revision"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def line(make_job: JobMaker) -> list[Job]:
    """Three jobs, in the order of their names."""
    return [make_job("pretrain", State.QUEUED, name=name, minutes=9 - n) for n, name in enumerate("abc")]


def expect_order(page: Page, *jobs: Job) -> None:
    expect(page.locator("table.queued .name a")).to_have_text([f"#{job.pk} {job.name}" for job in jobs])


def test_shift_and_an_arrow_move_the_chosen_job_and_it_stays_chosen(visit: Visit, bob: User, line: list[Job]) -> None:
    a, b, c = line
    page = visit(bob, "/queue/")
    for _ in range(3):
        page.keyboard.press("j")
    expect(page.locator("tr.chosen")).to_contain_text(f"#{c.pk} c")
    page.keyboard.press("Shift+ArrowUp")
    expect_order(page, a, c, b)
    expect(page.locator("tr.chosen")).to_contain_text(f"#{c.pk} c")
    page.keyboard.press("Shift+ArrowUp")
    expect_order(page, c, a, b)
    page.keyboard.press("Shift+ArrowUp")  # it is first
    page.keyboard.press("Shift+ArrowDown")
    expect_order(page, a, c, b)
    assert list(queued_jobs("device")) == [a, c, b]
    page.keyboard.press("k")
    expect(page.locator("tr.chosen")).to_contain_text(f"#{a.pk} a")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", name=f"#{a.pk} a")).to_be_visible()


def test_the_chosen_row_outlives_a_refresh(visit: Visit, bob: User, line: list[Job]) -> None:
    page = visit(bob, "/queue/")
    page.keyboard.press("j")
    with page.expect_response("**/queue/"):
        pass
    Job.objects.filter(pk=line[1].pk).update(name="renamed")
    expect(page.get_by_role("link", name="renamed")).to_be_visible()
    expect(page.locator("tr.chosen")).to_contain_text(f"#{line[0].pk} a")


def test_a_button_brings_a_job_to_the_front_and_another_page_follows_by_itself(
    visit: Visit, alice: User, bob: User, line: list[Job]
) -> None:
    a, b, c = line
    looking, page = visit(alice, "/queue/?whose=mine"), visit(bob, "/queue/", width=390)
    expect_order(looking, a, b, c)
    page.get_by_role("button", name=f"#{c.pk} to the front").click()
    expect_order(page, c, a, b)
    expect(page.get_by_role("button", name=f"#{c.pk} up")).to_be_disabled()
    expect_order(looking, c, a, b)


def test_a_refusal_is_said_and_outlives_the_next_refresh(visit: Visit, bob: User, make_job: JobMaker) -> None:
    make_job("pretrain", State.QUEUED, minutes=9, project=Project.objects.create(name="Theirs"))
    ours = make_job("pretrain", State.QUEUED, minutes=1)
    page = visit(bob, "/queue/")
    page.get_by_role("button", name=f"#{ours.pk} up").click()
    said = page.get_by_role("alert")
    expect(said).to_contain_text("only an administrator moves past it")
    Job.objects.filter(pk=ours.pk).update(name="renamed")
    expect(page.get_by_role("link", name="renamed")).to_be_visible()
    expect(said).to_be_visible()
