"""A stack scrolls slice by slice: no page is loaded, no frame is blank, and what lies over a slice is its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.test_viewer import keep, until
from webapp.datasets.intake.services import dataset_from_folder
from webapp.datasets.models import Dataset, Item
from webapp.projects.models import Project, User

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

SLICES, HEIGHT, WIDTH = 30, 48, 64
GREY = [40 + 6 * n for n in range(SLICES)]
ADDRESS = f"x={WIDTH / 2}&y={HEIGHT / 2}&zoom=8&style=mask:mask~fill"

WATCH = """() => {
  const stage = document.querySelector('#stage');
  const [picture, over] = ['.openseadragon-canvas canvas', 'canvas.overlay'].map((s) => stage.querySelector(s));
  const copy = new OffscreenCanvas(512, 2).getContext('2d', { willReadFrequently: true });
  const left = Math.round(stage.clientWidth / 2 - 256), middle = Math.round(stage.clientHeight / 2);
  window.frames_seen = [];
  window.same_page = true;
  const look = () => {
    copy.clearRect(0, 0, 512, 2);
    copy.drawImage(picture, left, middle, 512, 1, 0, 0, 512, 1);
    copy.drawImage(over, left, middle, 512, 1, 0, 1, 512, 1);
    const { data } = copy.getImageData(0, 0, 512, 2);
    let strip = -1;
    for (let x = 0; x < 512 && strip < 0; x += 4) if (data[4 * (512 + x) + 3] > 0) strip = Math.floor(x / 16);
    window.frames_seen.push([data[4 * 256], data[4 * 256 + 3], strip]);
  };
  const { port1, port2 } = new MessageChannel();
  // After everything that draws in this frame.
  port1.onmessage = look;
  const next = () => { port2.postMessage(0); requestAnimationFrame(next); };
  requestAnimationFrame(next);
}"""


@pytest.fixture
def stack(project: Project, alice: User, tmp_path: Path) -> Dataset:
    """Slices of one grey each, and a mask that is another strip on each."""
    images = np.random.default_rng(3).integers(20, 250, (SLICES, HEIGHT, WIDTH), dtype=np.uint8)
    masks = np.zeros_like(images)
    for n, grey in enumerate(GREY):
        images[n, HEIGHT // 4 : -HEIGHT // 4] = grey
        masks[n, :, 2 * n : 2 * n + 2] = 255
    for folder, pixels in (("images", images), ("masks", masks)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "stack.tif", pixels, photometric="minisblack")
    return dataset_from_folder(project=project, name="Lucchi", folder=tmp_path, user=alice)


@pytest.fixture
def slices(stack: Dataset) -> list[Item]:
    found = list(stack.all_items.order_by("index"))
    assert len(found) == SLICES
    assert all(item.masks for item in found)
    return found


def frames(page: Page) -> list[list[int]]:
    """Grey and alpha in the middle, and the strip of the mask, in every frame since the watch began."""
    seen: list[list[int]] = page.evaluate("window.frames_seen")
    assert seen
    return seen


def check_frames(page: Page) -> list[int]:
    """No frame was blank, and each mask lay over its own slice. Returns the slices in the order in which they came."""
    came: list[int] = []
    for grey, alpha, strip in frames(page):
        assert alpha == 255, "a blank frame"
        assert grey in GREY, f"grey {grey} is of no slice"
        assert strip == GREY.index(grey), "a mask of another slice"
        if not came or came[-1] != strip:
            came.append(strip)
    return came


def stands(page: Page, item: Item, *, number: int) -> None:
    expect(page.locator("h1")).to_have_text(item.name)
    expect(page.locator("#slice-words")).to_have_text(f"{number} of {SLICES}")
    expect(page.locator("#slice")).to_have_value(str(number))
    until(page, lambda: f"/items/{item.pk}/?" in page.url, "the address follows")
    assert page.title().startswith(item.name)
    assert page.evaluate("window.same_page"), "the page was loaded anew"
    assert frames(page)[-1] == [GREY[number - 1], 255, number - 1]


def opened(visit: Visit, alice: User, slices: list[Item], query: str = "") -> Page:
    """The first slice, come to from the grid."""
    page = visit(alice, f"/datasets/{slices[0].dataset_id}/")
    page.goto(page.url.split("/datasets/")[0] + f"/items/{slices[0].pk}/?{ADDRESS}{query}")
    expect(page.locator("#slice")).to_be_enabled()
    page.evaluate(WATCH)
    until(page, lambda: last_frame(page) == [GREY[0], 255, 0], "the first slice is there with its mask")
    page.evaluate("window.frames_seen.length = 0")
    return page


def last_frame(page: Page) -> Any:
    return page.evaluate("window.frames_seen.at(-1) ?? [-1, -1, -1]")


def test_a_held_key_goes_through_the_stack_without_a_blank_frame_and_stops_where_it_is_let_go(
    visit: Visit, slices: list[Item], alice: User
) -> None:
    page = opened(visit, alice, slices)
    for _ in range(20):
        page.keyboard.down("j")
        page.wait_for_timeout(30)
    page.keyboard.up("j")
    until(page, lambda: last_frame(page)[0] == GREY[20], "it comes to where the key was let go")
    stands(page, slices[20], number=21)
    came = check_frames(page)
    assert came == sorted(came), "no slice came back"
    assert len(came) > 3
    expect(page.locator("#zoom")).to_have_text("800 %")
    page.keyboard.press("k")
    until(page, lambda: last_frame(page)[0] == GREY[19], "back by one")
    stands(page, slices[19], number=20)
    page.go_back()
    expect(page).to_have_url(re.compile(f"/datasets/{slices[0].dataset_id}/"))


def test_slider_wheel_and_arrows_go_through_the_stack_and_facts_and_predictions_go_along(
    visit: Visit, slices: list[Item], alice: User
) -> None:
    said = np.zeros((HEIGHT, WIDTH), np.uint8)
    job = keep(slices[0], "prediction", said, classes=[0, 255], foreground_iou=0.25).job
    other = keep(slices[1], "prediction", said, classes=[0, 255], foreground_iou=0.75)
    type(other).objects.filter(pk=other.pk).update(job=job)
    page = opened(visit, alice, slices)
    note = page.locator('[data-layer="prediction"] [data-part="note"]')
    expect(note).to_contain_text("0.250")
    page.mouse.move(400, 400)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, 100)
    page.keyboard.up("Shift")
    until(page, lambda: last_frame(page)[0] == GREY[1], "a turn of the wheel is one slice")
    stands(page, slices[1], number=2)
    expect(note).to_contain_text("0.750")
    page.get_by_label("Slice", exact=True).fill("30")
    until(page, lambda: last_frame(page)[0] == GREY[29], "the slider goes to any slice")
    stands(page, slices[29], number=30)
    expect(page.locator("dl.facts").last).to_contain_text("30 of its file")
    expect(page.locator('[data-layer="prediction"]')).to_contain_text("No prediction of this image yet.")
    page.get_by_label("Slice before").click()
    until(page, lambda: last_frame(page)[0] == GREY[28], "an arrow is one slice")
    stands(page, slices[28], number=29)
    page.keyboard.press("1")
    until(page, lambda: last_frame(page)[2] == -1, "the mask can be taken off")
    page.keyboard.press(",")
    until(page, lambda: last_frame(page)[:2] == [GREY[27], 255], "and stays off")
    page.keyboard.press("1")
    until(page, lambda: last_frame(page) == [GREY[27], 255, 27], "until it is wanted again")
    until(page, lambda: f"/items/{slices[27].pk}/?" in page.url, "the address follows")
    page.reload()
    expect(page.locator("h1")).to_have_text(slices[27].name)


def test_the_window_that_was_chosen_stays_and_a_page_that_cannot_be_shown_in_place_is_loaded(
    visit: Visit, slices: list[Item], alice: User
) -> None:
    page = opened(visit, alice, slices)
    page.keyboard.press("i")
    until(page, lambda: last_frame(page)[0] == 255 - GREY[0], "inverted")
    page.evaluate("window.frames_seen.length = 0")
    page.keyboard.press("j")
    until(page, lambda: last_frame(page)[0] == 255 - GREY[1], "the next one is inverted too")
    assert {frame[0] for frame in frames(page)} <= {255 - GREY[0], 255 - GREY[1]}
    page.route(f"**/items/{slices[12].pk}/image.png*", lambda route: route.abort())
    page.get_by_label("Slice", exact=True).fill("13")
    expect(page.locator("h1")).to_have_text(slices[12].name)
    expect(page.locator("#stage-notice")).to_be_visible()
    assert page.evaluate("window.same_page") is None, "the page was loaded"
