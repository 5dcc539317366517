"""Colorized pairs in the browser: grey beside colour in the grid, and the colours as a layer over the image."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.test_viewer import until
from tests.webapp.datasets.pictures.test_colorized import IMAGES, PLANES, by_torch, colorized
from webapp.datasets.intake.services import dataset_from_folder
from webapp.datasets.models import Dataset
from webapp.projects.models import Project, User

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

OVER = """() => {
  const over = document.querySelector('canvas.overlay');
  if (!over?.width) return [0, 0, 0, 0];
  const copy = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  copy.drawImage(over, over.width >> 1, over.height >> 1, 1, 1, 0, 0, 1, 1);
  return [...copy.getImageData(0, 0, 1, 1).data];
}"""
SIZES = """[...document.querySelectorAll('#grid .pair')].map((pair) => [...pair.querySelectorAll('img')].map((image) =>
  [image.complete && image.naturalWidth, Math.round(image.getBoundingClientRect().width)]))"""


@pytest.fixture
def dataset(project: Project, alice: User, tmp_path: Path) -> Dataset:
    (tmp_path / "images").mkdir()
    for name, pixels in IMAGES.items():
        Image.fromarray(pixels).save(tmp_path / name)
    return dataset_from_folder(project=project, name="Lucchi", folder=tmp_path, user=alice)


@pytest.mark.parametrize("width", [1280, 390])
def test_grey_stands_beside_colour_and_a_click_lays_the_colours_over_the_image(
    visit: Visit, dataset: Dataset, alice: User, tmp_path: Path, width: int
) -> None:
    first = colorized(dataset, tmp_path, origin="structured")
    colorized(dataset, tmp_path, origin="eccv16")
    page = visit(alice, f"/datasets/{dataset.pk}/", width=width)
    page.get_by_role("link", name="Colorized pairs").click()
    expect(page.locator("#grid .pair")).to_have_count(len(IMAGES))
    until(page, lambda: all(n for pair in page.evaluate(SIZES) for n, _ in pair), "all pictures are there")
    for (_, grey), (_, colour) in page.evaluate(SIZES):
        assert grey == colour > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.get_by_text("Colorizer eccv16")).to_be_visible()
    page.get_by_label("Colours by").select_option(str(first.pk))
    expect(page.get_by_text("Colorizer structured")).to_be_visible()
    page.locator("#grid a").last.click()
    expect(page.locator("h1")).to_have_text("images/3.png")
    colours(page, "images/3.png")
    page.locator("#layers-title").click()
    page.keyboard.press("5")
    until(page, lambda: not any(over(page)), "the key takes them off")
    page.keyboard.press("5")
    page.keyboard.press("k")
    expect(page.locator("h1")).to_have_text("images/2.png")
    colours(page, "images/2.png")
    expect(page.get_by_label("Run of Colours")).to_have_value(str(first.pk))


def over(page: Page) -> list[int]:
    """What lies over the middle of the stage."""
    found: list[int] = page.evaluate(OVER)
    return found


def colours(page: Page, name: str) -> None:
    """Waits until the colours of this image lie over it: in its middle, one of four pixels."""
    expected = by_torch(IMAGES[name], PLANES[list(IMAGES).index(name)])
    rows, columns = expected.shape[0] // 2, expected.shape[1] // 2
    four = expected[rows - 1 : rows + 1, columns - 1 : columns + 1].reshape(-1, 3)

    def there() -> bool:
        *rgb, alpha = over(page)
        return alpha == 255 and any(abs(colour - rgb).max() < 2 for colour in four)

    until(page, there, "the colours are there")
