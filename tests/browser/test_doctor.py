"""The doctor's page: its findings are copied, its self-test shows live what came back."""

from __future__ import annotations

import socket

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from webapp.doctor import selftest
from webapp.projects.models import User
from worker import selftest as selftest_module

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_findings_are_copied_as_text(visit: Visit, alice: User) -> None:
    page = visit(alice, "/doctor/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "[well] Database: PostgreSQL" in page.evaluate("navigator.clipboard.readText()")


def test_a_self_test_shows_each_answer_as_it_comes(visit: Visit, alice: User) -> None:
    page = visit(alice, "/doctor/")
    page.get_by_role("button", name="Self-test").click()
    rows = {
        part: page.locator("tr", has=page.get_by_role("cell", name=part))
        for part in ("Jobs on devices", "Maps and predictions", "Reading files", "Live link")
    }
    expect(rows["Reading files"]).to_contain_text("Waiting for a worker")
    # The server of the tests speaks no sockets.
    expect(rows["Live link"]).to_contain_text("It does not open from this browser")
    ticket = page.url.rstrip("/").rpartition("/")[2]
    selftest_module.answer(ticket, queue="io")
    expect(rows["Reading files"]).to_contain_text(f"The worker on {socket.gethostname()} took the test")
    expect(rows["Maps and predictions"]).to_contain_text("Waiting for a worker")
    selftest.selftest_note(ticket, queue="interactive", host="lab-2")
    selftest.selftest_note(ticket, queue="device", host="lab-2")
    expect(rows["Jobs on devices"]).to_contain_text("Its trainer is running")
    selftest.selftest_note(ticket, queue="device", code=1, said="A training step on cuda:0 is off.")
    expect(rows["Jobs on devices"]).to_contain_text("not well")
    expect(rows["Live link"]).to_contain_text("It does not open from this browser")
