"""The viewer shows the pixels that were uploaded: square, not mirrored, in the window that it names."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import tifffile
from django.core.files.storage import default_storage
from django.utils import timezone
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from webapp.datasets.intake.services import dataset_from_folder
from webapp.datasets.models import Dataset, Item
from webapp.datasets.services import dataset_create
from webapp.jobs.models import Artifact, Event, Job, Queue, State
from webapp.projects.models import Project, User

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HEIGHT, WIDTH = 48, 64
GREY = np.random.default_rng(5).integers(40, 200, (HEIGHT, WIDTH), dtype=np.uint8)
DEEP = (np.random.default_rng(6).integers(1_000, 60_000, (HEIGHT, WIDTH))).astype(np.uint16)
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[8:24, 8:40] = 255
SAID = np.zeros((HEIGHT, WIDTH), np.uint8)
SAID[16:32, 8:40] = 1

PAINTED = """([x, y]) => {
  const copy = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  copy.drawImage(document.querySelector('#stage .openseadragon-canvas canvas'), x, y, 1, 1, 0, 0, 1, 1);
  return [...copy.getImageData(0, 0, 1, 1).data];
}"""


@pytest.fixture
def dataset(project: Project, alice: User, tmp_path: Path) -> Dataset:
    """Two 8-bit images, the first with a mask, and one of 16 bit with 5 nm per pixel."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(GREY).save(tmp_path / "images" / "a.png")
    Image.fromarray(255 - GREY).save(tmp_path / "images" / "b.png")
    Image.fromarray(MASK).save(tmp_path / "masks" / "a.png")
    per_centimetre = 1e7 / 5
    tifffile.imwrite(
        tmp_path / "images" / "deep.tif",
        DEEP,
        resolution=(per_centimetre, per_centimetre),
        resolutionunit="CENTIMETER",
    )
    return dataset_from_folder(project=project, name="Lucchi", folder=tmp_path, user=alice)


def item(dataset: Dataset, name: str) -> Item:
    return dataset.all_items.get(name=f"images/{name}")


def keep(item: Item, kind: str, picture: NDArray[np.uint8], **facts: object) -> Artifact:
    """A picture that a job of the project made of `item`."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    project = item.dataset.project
    job = Job.objects.create(project=project, kind="segment", name=kind, spec={}, queue=Queue.DEVICE, state=State.DONE)
    event = Event.objects.create(job=job, epoch=1, kind="artifact", time=timezone.now())
    return Artifact.objects.create(
        job=job,
        event=event,
        kind=kind,
        name=f"{kind}.png",
        sha256=default_storage.put_bytes(content.getvalue()),  # type: ignore[attr-defined]
        size=len(content.getvalue()),
        media_type="image/png",
        epoch=1,
        facts={"image": item.image, "page": item.page, **facts},
    )


def until(page: Page, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        page.wait_for_timeout(50)


def window_of(page: Page) -> tuple[float, float]:
    """Low and high in the address, once they are there."""
    query: dict[str, list[str]] = {}

    def there() -> bool:
        query.clear()
        query.update(parse_qs(urlsplit(page.url).query))
        return "low" in query

    until(page, there, "the window stands in the address")
    return float(query["low"][0]), float(query["high"][0])


class Look:
    """What stands on the stage at 8 device pixels per image pixel, (32, 24) in its middle."""

    ZOOM = 8
    ADDRESS = f"x={WIDTH / 2}&y={HEIGHT / 2}&zoom={ZOOM}&on="

    def __init__(self, page: Page) -> None:
        self.page = page
        expect(page.locator("#zoom")).to_have_text("800 %")
        box = page.evaluate("(({ clientWidth: w, clientHeight: h }) => [w, h])(document.querySelector('#stage'))")
        self.left, self.top = box[0] / 2 - self.ZOOM * WIDTH / 2, box[1] / 2 - self.ZOOM * HEIGHT / 2

    def grey(self, x: int, y: int, *, within: tuple[float, float] = (0.5, 0.5)) -> int:
        place = [round(self.left + (x + within[0]) * self.ZOOM), round(self.top + (y + within[1]) * self.ZOOM)]
        red, green, blue, alpha = self.page.evaluate(PAINTED, place)
        assert red == green == blue
        assert alpha == 255 or red == 0
        return int(red)

    def shows(self, expected: NDArray[np.uint8], what: str, *, slack: int = 0) -> None:
        """Waits until pixels far apart all have the grey that they should have."""
        places = [(3, 2), (60, 2), (3, 45), (60, 45), (31, 23), (17, 30)]

        def right() -> bool:
            return all(abs(self.grey(x, y) - int(expected[y, x])) <= slack for x, y in places)

        until(self.page, right, what)


def test_above_100_percent_a_pixel_is_a_square_of_its_own_value_and_stays_where_it_is(
    visit: Visit, dataset: Dataset, alice: User
) -> None:
    page = visit(alice, f"/items/{item(dataset, 'a.png').pk}/?{Look.ADDRESS}")
    look = Look(page)
    look.shows(GREY, "the micrograph is shown as it is")
    corners = [(0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.9, 0.9)]
    assert {look.grey(20, 20, within=corner) for corner in corners} == {int(GREY[20, 20])}
    page.locator(".openseadragon-canvas").focus()
    for key in "frFRwasd":  # The viewer's own keys mirror, turn and move.
        page.keyboard.press(key)
    look.shows(GREY, "it is neither mirrored nor turned nor moved")


def test_the_contrast_window_is_what_it_says_and_goes_along_to_the_next_image(
    visit: Visit, dataset: Dataset, alice: User
) -> None:
    page = visit(alice, f"/items/{item(dataset, 'a.png').pk}/?{Look.ADDRESS}")
    look = Look(page)
    look.shows(GREY, "the micrograph is shown as it is")
    page.get_by_label("Black", exact=True).fill("80")
    page.get_by_label("White", exact=True).fill("160")
    page.get_by_label("White", exact=True).press("Enter")
    expect(page.locator("#window-words")).to_have_text("80 to 160")

    def windowed(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.clip((values.astype(float) - 80) / 80 * 255, 0, 255).round().astype(np.uint8)

    look.shows(windowed(GREY), "80 is black and 160 is white", slack=1)
    assert window_of(page) == (80, 160)
    page.locator("#layers-title").click()
    page.keyboard.press("i")
    look.shows(255 - windowed(GREY), "inverted", slack=1)
    page.keyboard.press("i")
    until(page, lambda: "low=80" in str(page.locator("a[rel=next]").get_attribute("href")), "the link carries it")
    page.keyboard.press("j")
    expect(page.locator("h1")).to_have_text("images/b.png")
    Look(page).shows(windowed(255 - GREY), "the next image is shown in the same window", slack=1)


def test_a_16_bit_image_is_drawn_anew_from_its_own_values_in_each_window(
    visit: Visit, dataset: Dataset, alice: User
) -> None:
    deep = item(dataset, "deep.tif")
    page = visit(alice, f"/items/{deep.pk}/?{Look.ADDRESS}")
    look = Look(page)
    low, high = 30_000, 31_000
    page.get_by_label("Black", exact=True).fill(f"{low:,}")
    page.get_by_label("White", exact=True).fill(f"{high:,}")
    page.get_by_label("White", exact=True).press("Enter")
    exact = np.clip(np.rint((DEEP.astype(float) - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    # 256 levels over all 16 bits have four in this window: only the source knows the rest.
    look.shows(exact, "a narrow window has all its grey levels", slack=1)
    page.get_by_role("button", name="Full").click()
    until(page, lambda: window_of(page) == (DEEP.min(), DEEP.max()), "Full is from the least to the greatest value")
    page.get_by_role("button", name="Auto").click()
    until(page, lambda: DEEP.min() <= window_of(page)[0] < window_of(page)[1] <= DEEP.max(), "Auto lies within")


def test_the_scale_bar_is_round_and_absent_where_the_pixel_size_is_unknown(
    visit: Visit, dataset: Dataset, alice: User
) -> None:
    page = visit(alice, f"/items/{item(dataset, 'deep.tif').pk}/?{Look.ADDRESS}")
    Look(page)
    expect(page.locator("#scale-bar span")).to_have_text("100 nm")
    assert page.locator("#scale-bar rect").get_attribute("width") == str(100 // 5 * Look.ZOOM)
    page.goto(page.url.replace(f"/items/{item(dataset, 'deep.tif').pk}/", f"/items/{item(dataset, 'a.png').pk}/"))
    Look(page)
    expect(page.locator("#scale-bar")).to_be_hidden()
    expect(page.locator("#no-scale")).to_have_text("pixel size unknown Set")
    page.locator("#no-scale a").click()
    expect(page.get_by_label("Pixel size in nm")).to_be_in_viewport()


def test_errors_are_counted_from_mask_and_prediction_and_layers_have_their_keys(
    visit: Visit, dataset: Dataset, alice: User
) -> None:
    first = item(dataset, "a.png")
    made = keep(first, "prediction", SAID, classes=[0, 255], foreground_iou=1 / 3)
    page = visit(alice, f"/items/{first.pk}/")
    expect(page.locator('[data-layer="prediction"] [data-part="note"]')).to_have_text(
        "foreground IoU 0.333, n = 1 image"
    )
    page.keyboard.press("3")
    share = 100 * 8 * 32 / (HEIGHT * WIDTH)
    note = page.locator('[data-layer="errors"] [data-part="note"]')
    expect(note).to_have_text(f"{share:.1f} %, {share:.1f} % of the image")
    page.keyboard.press("1")
    page.keyboard.press("2")
    until(page, lambda: "on=errors&" in page.url and f"run={made.pk}" in page.url, "the address says what is on")
    page.reload()
    expect(page.locator('[data-layer="errors"] input[type=checkbox]')).to_be_checked()
    expect(page.locator('[data-layer="prediction"] input[type=checkbox]')).not_to_be_checked()
    expect(note).to_have_text(f"{share:.1f} %, {share:.1f} % of the image")


def test_a_map_whose_check_failed_says_so_on_the_map(visit: Visit, dataset: Dataset, alice: User) -> None:
    first = item(dataset, "a.png")
    facts = {"method": "gradcam", "layer": "layer4", "target": "mitochondria", "random_correlation": 0.1}
    keep(first, "cam", GREY, confidence_drop=-0.02, **facts)
    page = visit(alice, f"/items/{first.pk}/")
    expect(page.locator("#cam-warning")).to_be_hidden()
    page.get_by_label("CAM").first.check()
    expect(page.locator("#cam-warning")).to_contain_text("this map is not reliable")
    words = page.locator('[data-part="cam-words"]')
    expect(words).to_contain_text("Grad-CAM, Stage 4 (coarse), target mitochondria. Confidence falls -0.02")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_of_a_dataset_scrolls_sideways_or_has_targets_too_small_to_hit(
    visit: Visit, dataset: Dataset, project: Project, alice: User, width: int, theme: str
) -> None:
    first = item(dataset, "a.png")
    keep(first, "prediction", SAID, classes=[0, 255], foreground_iou=1 / 3)
    keep(
        first, "cam", GREY, method="gradcam", layer="decoder", target="a class with a name that somebody wrote in full"
    )
    empty = dataset_create(project=project, user=alice, name="Empty")
    page = visit(alice, "/", width=width, theme=theme)
    root = page.url.rstrip("/")
    paths = [f"/datasets/{dataset.pk}/{query}" for query in ("", "?tab=doctor", "?tab=history", "?label=none")]
    paths += [f"/items/{first.pk}/?on=cam", f"/datasets/{empty.pk}/", f"/projects/{project.pk}/datasets/new/"]
    for path in paths:
        page.goto(root + path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        small = page.evaluate(
            """[...document.querySelectorAll("button, select, summary, .button, input:not(.unseen)")]
            .filter((e) => e.checkVisibility() && e.type !== "checkbox" && e.type !== "radio")
            .filter((e) => e.getBoundingClientRect().height < 24 || e.getBoundingClientRect().width < 24)
            .map((e) => e.outerHTML.slice(0, 100))"""
        )
        assert small == [], path


def test_a_large_image_is_shown_by_tiles_with_square_pixels_at_full_resolution(
    visit: Visit, project: Project, alice: User, tmp_path: Path
) -> None:
    grey = np.random.default_rng(7).integers(0, 255, (700, 9000), dtype=np.uint8)
    folder = tmp_path / "large"
    folder.mkdir()
    Image.fromarray(grey).save(folder / "large.png")
    large = dataset_from_folder(project=project, name="Large", folder=folder, user=alice).all_items.get()
    x, y = 8713, 523
    page = visit(alice, f"/items/{large.pk}/?x={x}&y={y}&zoom=8&on=")
    expect(page.locator("#zoom")).to_have_text("800 %")
    width, height = page.evaluate("(({ clientWidth: w, clientHeight: h }) => [w, h])(document.querySelector('#stage'))")

    def seen(dx: int, dy: int) -> int:
        place = [round(width / 2 + (dx + 0.5) * 8), round(height / 2 + (dy + 0.5) * 8)]
        return int(page.evaluate(PAINTED, place)[0])

    places = ((0, 0), (-9, 3), (12, -17), (-20, -20))  # not all on one tile
    until(
        page,
        lambda: all(seen(dx, dy) == grey[y + dy, x + dx] for dx, dy in places),
        "the tiles at full resolution are there",
    )
