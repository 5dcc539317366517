"""A real Chromium looking at a real server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from webapp.projects.models import User

CHROMIUM = os.environ.get("CRISTAE_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def _need(present: object, sentence: str) -> None:
    if not present:
        if os.environ.get("CRISTAE_REQUIRE_BROWSER") == "1":
            pytest.fail(sentence)
        pytest.skip(sentence)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for one file of tests: while Playwright's loop runs, no other asynchronous test can."""
    _need(shutil.which(CHROMIUM), f"No Chromium at {CHROMIUM}; install it, or set CRISTAE_CHROMIUM to another.")
    _need((settings.FRONTEND / "manifest.json").exists(), "The front end is not built: run `make setup`.")
    # Playwright's loop runs in this thread, and Django would take every query beside it for a mistake.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


Visit = Callable[..., Page]


@pytest.fixture
def visit(chromium: Browser, live_server: LiveServer) -> Iterator[Visit]:
    """Opens a window for a person: `visit(alice, "/queue/", width=390)`.

    At the end, no page may have complained on its console, and none may have asked another server for anything.
    """
    expect.set_options(timeout=15_000)
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def hear(kind: str, text: str, address: str) -> None:
        # The live server of the tests speaks no sockets: the pages fall back to plain requests.
        if kind in ("error", "warning") and "WebSocket" not in text and "Failed to load resource" not in text:
            complaints.append(f"{address}: {text}")

    def ask(address: str) -> None:
        if not address.startswith((live_server.url, "data:", "blob:", live_server.url.replace("http", "ws", 1))):
            complaints.append(f"asked {address}")

    def open_window(
        user: User | None, path: str = "/", *, width: int = 1280, theme: str = "light", scripts: bool = True
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,  # type: ignore[arg-type]
            java_script_enabled=scripts,
        )
        contexts.append(context)
        if user is not None:
            client = Client()
            client.force_login(user)
            key = client.cookies[settings.SESSION_COOKIE_NAME].value
            context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": live_server.url}])
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: hear(message.type, message.text, page.url))
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("request", lambda request: ask(request.url))
        page.goto(live_server.url + path)
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert complaints == []
