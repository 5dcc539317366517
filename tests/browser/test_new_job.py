"""The form of a new job in a real browser: what goes out of sight, what the data offers, what can be had back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.webapp.conftest import JobMaker, dataset, make_job, revision
from webapp.datasets.models import Dataset, Revision
from webapp.jobs.models import Job, State
from webapp.projects.models import Project, User

__all__ = ["dataset", "make_job", "revision"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def _new(project: Project, query: str) -> str:
    return f"/projects/{project.pk}/jobs/new/?{query}"


def _more(page: Page) -> None:
    page.get_by_text("More (").click()


def test_a_field_without_effect_goes_out_of_sight_and_comes_back_with_its_value(
    visit: Visit, alice: User, project: Project, revision: Revision
) -> None:
    page = visit(alice, _new(project, "kind=segment&preset=recommended"))
    _more(page)
    tile = page.get_by_label("Tile of prediction")
    tile.fill("512")
    page.get_by_label("Framing").select_option("resize")
    expect(tile).to_be_hidden()
    expect(page.get_by_label("Resolution")).to_be_hidden()
    expect(page.locator("#changed")).to_have_text("1 field differs from recommended")
    page.get_by_label("Framing").select_option("crops")
    expect(tile).to_have_value("512")
    expect(page.locator("#changed")).to_have_text("1 field differs from recommended")


def test_an_encoder_says_its_architecture_and_casser_its_decoder(
    visit: Visit, alice: User, project: Project, make_job: JobMaker
) -> None:
    make_job("pretrain", State.DONE, name="byol-colour")
    page = visit(alice, _new(project, "kind=segment&preset=recommended"))
    _more(page)
    field = page.locator("#field-encoder")
    expect(field).to_contain_text("ResNet-18, taken from #")
    expect(field.get_by_role("combobox")).to_be_hidden()
    expect(page.get_by_label("Without a pretrained encoder")).to_be_hidden()
    page.locator("#slot-encoder").select_option("")
    expect(page.get_by_label("Without a pretrained encoder")).to_be_visible()
    expect(page.get_by_label("Decoder width")).to_be_visible()
    field.get_by_role("combobox").select_option("casser")
    expect(page.get_by_label("Decoder width")).to_be_hidden()
    page.get_by_role("button", name="Queue job").click()  # its width, half, is asked of nobody
    expect(page.locator("#state .chip")).to_have_text("Queued")
    assert Job.objects.latest("pk").spec["decoder_width"] == "full"


def test_without_scripts_every_field_is_there_and_the_form_can_be_sent(
    visit: Visit, alice: User, project: Project, revision: Revision
) -> None:
    page = visit(alice, "/", scripts=False)
    page.goto(page.url.rstrip("/") + _new(project, "kind=segment&preset=quick"))
    _more(page)
    expect(page.get_by_label("Tile of prediction")).to_be_visible()
    page.get_by_label("Framing").select_option("crops")
    page.get_by_label("Tile of prediction").fill("96")
    page.get_by_label("Tile of prediction").press("Enter")
    expect(page.locator("#state")).to_contain_text("Queued")
    assert Job.objects.get().spec["prediction_tile"] == 96


def test_the_mask_layers_that_are_offered_are_those_of_the_dataset_that_is_chosen(
    visit: Visit, alice: User, project: Project, revision: Revision
) -> None:
    other = Revision.objects.create(
        dataset=Dataset.objects.create(project=project, name="Kasthuri", created_by=alice),
        number=1,
        manifest="b" * 64,
        items_count=85,
        summary={"masks": {"membranes": 85, "vesicles": 40}, "with_mask": 85},
        change="85 images added.",
    )
    page = visit(alice, _new(project, f"kind=segment&preset=quick&dataset={revision.dataset_id}"))
    layer = page.get_by_label("Mask layer")
    expect(layer.locator("option")).to_have_text(["the only one", "mitochondria"])
    layer.select_option("mitochondria")
    page.locator("#slot-dataset").select_option(f"revision-{other.pk}")
    expect(layer.locator("option")).to_have_text(["the only one", "membranes", "vesicles"])
    expect(layer).to_have_value("")
    expect(page.locator("#preflight")).to_contain_text("Kasthuri has the mask layers membranes, vesicles")
    page.get_by_role("button", name="Queue job").click()
    expect(page.locator("#refusals")).to_be_focused()
    page.locator("#refusals").get_by_role("link", name="Mask layer").click()
    expect(layer).to_be_focused()
    layer.select_option("vesicles")
    page.get_by_role("button", name="Queue job").click()
    expect(page.locator("#state .chip")).to_have_text("Queued")
    assert Job.objects.get().spec["mask_layer"] == "vesicles"


def test_a_preset_says_what_it_overwrote_and_gives_it_back(
    visit: Visit, alice: User, project: Project, revision: Revision
) -> None:
    page = visit(alice, _new(project, "kind=segment&preset=quick"))
    page.get_by_label("Epochs").fill("77")
    page.get_by_label("paper").check()
    said = page.get_by_role("status").filter(has_text="overwritten")
    expect(said).to_have_text("The preset paper has overwritten 1 field that you had changed: Epochs (77).Undo")
    expect(page.get_by_label("Epochs")).to_have_value("200")
    said.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("quick")).to_be_checked()
    expect(page.get_by_label("Epochs")).to_have_value("77")
    expect(said).to_be_hidden()
    page.get_by_label("Epochs").fill("30")
    page.get_by_label("paper").check()  # nothing was changed, so nothing is lost
    expect(said).to_be_hidden()


def test_what_differs_from_the_preset_is_listed_and_one_click_leads_there(
    visit: Visit, alice: User, project: Project, revision: Revision
) -> None:
    page = visit(alice, _new(project, "kind=segment&preset=paper"))
    expect(page.get_by_text("Show what differs")).to_be_hidden()
    _more(page)
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Framing").select_option("crops")
    _more(page)
    page.get_by_text("Show what differs").click()
    lines = page.locator("#differing li")
    expect(lines).to_have_text(
        ["Framing: Crops at full resolution, paper: Whole slice, resized (paper)", "Seed: 7, paper: 0"]
    )
    lines.get_by_role("link", name="Seed").click()
    expect(page.get_by_label("Seed")).to_be_focused()


@pytest.mark.parametrize(
    ("kind", "label", "nasty"),
    [
        ("pretrain", "Epochs", "1e999"),
        ("pretrain", "Learning rate", "1,000"),
        ("segment", "Batch", "-1"),
        ("segment", "Size", "33"),
        ("classify", "Epochs", ""),
        ("cam", "Images", "many"),
        ("colorize", "Size", "9" * 400),
        ("train_colorizer", "Crop", "4096"),
    ],
)
def test_a_bad_value_is_refused_where_it_stands_and_focus_leads_there(
    visit: Visit, alice: User, project: Project, revision: Revision, kind: str, label: str, nasty: str
) -> None:
    page = visit(alice, _new(project, f"kind={kind}&preset=quick"))
    page.get_by_label(label, exact=True).fill(nasty)
    page.get_by_label(label, exact=True).press("Enter")
    expect(page.locator("#refusals")).to_be_focused()
    page.locator("#refusals").get_by_role("link", name=label, exact=True).click()
    expect(page.get_by_label(label, exact=True)).to_be_focused()
    expect(page.get_by_label(label, exact=True)).to_have_value(nasty)
    expect(page.get_by_label(label, exact=True)).to_have_attribute("aria-invalid", "true")
    assert not Job.objects.exists()
