"""Masks are paired by hand and a dataset is mended on its pages, up to the revision in which nothing is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from django.core.files.storage import default_storage
from playwright.sync_api import expect

from ml_core.data import synthetic
from ml_core.data.formats import readers
from tests.browser.conftest import Visit
from tests.webapp.datasets.intake.test_commit import mask, newest, picture, upload
from webapp.datasets.models import Dataset, Item
from webapp.datasets.services import dataset_create
from webapp.projects.models import Project, User

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return dataset_create(project=project, user=alice, name="Lucchi")


def pixels(item: Item) -> np.ndarray:
    ref = item.masks["mask"]
    return readers.read_mask(Path(default_storage.path(ref["sha256"])), page=ref["page"])


def test_the_page_says_what_paired_by_which_rule_and_two_are_paired_by_hand(
    visit: Visit, dataset: Dataset, alice: User, bob: User, tmp_path: Path
) -> None:
    files: dict[str, object] = {f"images/slice_{n:02d}.png": picture(n) for n in range(4)}
    files |= {"masks/slice_00.png": mask(0), "masks/marked_1.png": mask(1), "masks/corrected.png": mask(30)}
    upload(dataset, files, user=alice, folder=tmp_path)
    page = visit(bob, f"/datasets/{dataset.pk}/")
    page.get_by_role("link", name="Masks", exact=True).click()
    expect(page.locator("main")).to_contain_text("2 masks: 1 by folder, 1 by the numbers in their names")
    rows = page.locator("tbody tr")
    expect(rows.filter(has_text="images/slice_00.png")).to_contain_text("by folder")
    expect(rows.filter(has_text="images/slice_01.png")).to_contain_text("by the numbers in their names")
    waiting = rows.filter(has_text="masks/corrected.png")
    waiting.get_by_role("link", name="Choose its image").click()
    page.get_by_label("Name of the image").fill("slice 3")
    page.locator("#choose").get_by_role("button", name="Search").click()
    expect(page.locator("#choose tbody tr")).to_have_count(1)
    page.get_by_label("images/slice_03.png").check()
    page.get_by_role("button", name="Pair with this mask").click()
    expect(page.locator("main")).to_contain_text("paired with images/slice_03.png, by hand. This is revision 2 now.")
    expect(rows.filter(has_text="images/slice_03.png")).to_contain_text("by hand")
    expect(page.locator("main")).not_to_contain_text("Unpaired masks")
    assert np.array_equal(pixels(newest(dataset).items.get(name="images/slice_03.png")), mask(30))
    assert "mask" not in dataset.revisions.get(number=1).items.get(name="images/slice_03.png").masks


def test_each_finding_of_the_doctor_is_mended_by_one_click_and_is_gone(
    visit: Visit, dataset: Dataset, alice: User, bob: User, tmp_path: Path
) -> None:
    files: dict[str, object] = {}
    for n in range(14):
        grey, _ = synthetic.micrograph(n, size=96)
        drawn = mask(n, size=96)
        if n == 5:
            drawn[0, :4] = 38
        files |= {f"images/z_{n:03d}.png": 255 - grey if n == 9 else grey, f"masks/z_{n:03d}.png": drawn}
    upload(dataset, files, user=alice, folder=tmp_path)
    page = visit(bob, f"/datasets/{dataset.pk}/")
    page.locator(".tabs").get_by_role("link", name="Doctor").click()

    strays = page.locator("section.card").filter(has_text="Masks with values that no class uses")
    expect(strays).to_contain_text("mask, value 38")
    strays.get_by_role("combobox").select_option("background")
    strays.get_by_role("button", name="Count as this").click()
    expect(page.locator("main")).to_contain_text("Value 38 of mask counts as background in 1 mask.")
    expect(strays).to_have_count(0)
    assert set(np.unique(pixels(newest(dataset).items.get(name="images/z_005.png")))) <= {0, 255}

    inverted = page.locator("section.card").filter(has_text="Images that look inverted beside the others")
    expect(inverted).to_contain_text("images/z_009.png")
    inverted.get_by_role("button", name="Invert all").click()
    expect(page.locator("main")).to_contain_text("1 image inverted. This is revision 3 now.")
    expect(inverted).to_have_count(0)

    unsized = page.locator("section.card").filter(has_text="Images without a pixel size")
    unsized.get_by_label("Pixel size in nm").fill("4,5")
    unsized.get_by_role("button", name="Set it for 14 images").click()
    expect(page.locator("main")).to_contain_text("This is revision 4 now.")
    expect(page.locator("#heading")).to_contain_text("4.5 nm/px")
    expect(unsized).to_have_count(0)
    expect(page.locator("main")).to_contain_text("All is well")
