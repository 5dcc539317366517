"""Masks taken off, called right, merged, named and renamed: by services and by the doctor's buttons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.test import Client
from numpy.typing import NDArray

from ml_core.data.formats import readers
from tests.webapp.datasets.intake.test_commit import mask, picture, upload
from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from webapp.datasets import services
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Item, Revision
from webapp.datasets.queries import mask_counts
from webapp.datasets.revisions import dataset_edits, mask_edits
from webapp.datasets.revisions.draft import Selection
from webapp.datasets.revisions.manifests import revision_manifest
from webapp.projects.models import Project, User

__all__ = ["seen_by"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


@pytest.fixture
def bring(dataset: Dataset, alice: User, tmp_path: Path) -> Callable[[dict[str, object]], Revision]:
    def bring(files: dict[str, object]) -> Revision:
        upload(dataset, files, user=alice, folder=tmp_path)
        return newest(dataset)

    return bring


Bring = Callable[[dict[str, object]], Revision]


def newest(dataset: Dataset) -> Revision:
    return Revision.objects.filter(dataset_id=dataset.pk).latest("number")


def item(revision: Revision, number: int) -> Item:
    return revision.items.get(name=f"images/{number:02d}.png")


def pixels(item: Item, layer: str = "mask") -> NDArray[np.uint8]:
    ref = item.masks[layer]
    return readers.read_mask(Path(default_storage.path(ref["sha256"])), page=ref["page"])


def drawn(number: int, *, stray: int = 0) -> NDArray[np.uint8]:
    found = mask(number)
    if stray:
        found[0, :5] = stray
    return found


def with_strays(count: int = 12, *, strays: int = 1, empty: int = 0) -> dict[str, object]:
    """Images with masks of the value 255; the first `strays` hold five pixels of 7, the last `empty` mark nothing."""
    files: dict[str, object] = {f"images/{n:02d}.png": picture(n) for n in range(count)}
    for n in range(count):
        bare = n >= count - empty
        files[f"masks/{n:02d}.png"] = np.zeros((64, 64), np.uint8) if bare else drawn(n, stray=7 if n < strays else 0)
    return files


def test_a_value_counted_as_background_is_gone_from_the_pixels_and_from_no_earlier_revision(
    dataset: Dataset, bring: Bring, alice: User
) -> None:
    first = bring(with_strays())
    [found] = mask_counts.unknown_values(first)
    assert (found.layer, found.value, found.count) == ("mask", 7, 1)
    made = mask_edits.value_merge(dataset, layer="mask", value=7, into=0, base=1, user=alice)
    assert made.change == "Value 7 of mask counts as background in 1 mask."
    assert made.summary["problems"] == {}
    assert np.array_equal(pixels(item(made, 0)), drawn(0))
    assert np.array_equal(pixels(item(first, 0)), drawn(0, stray=7))
    assert item(made, 0).masks["mask"]["values"] == {"0": 64 * 64 - 600, "255": 600}
    assert item(made, 1).pk == item(first, 1).pk
    back = dataset_edits.revision_restore(first, base=2, user=alice)
    assert np.array_equal(pixels(item(back, 0)), drawn(0, stray=7))


def test_a_value_can_be_merged_into_a_class_and_into_nothing_else(dataset: Dataset, bring: Bring, alice: User) -> None:
    bring(with_strays())
    for value, into in ((7, 9), (255, 0), (7, 7)):
        with pytest.raises(EditRefused, match="as the background or as one of its classes"):
            mask_edits.value_merge(dataset, layer="mask", value=value, into=into, base=1, user=alice)
    with pytest.raises(EditRefused, match="No mask of mask holds the value 8"):
        mask_edits.value_merge(dataset, layer="mask", value=8, into=0, base=1, user=alice)
    made = mask_edits.value_merge(dataset, layer="mask", value=7, into=255, base=1, user=alice)
    assert made.change == "Value 7 of mask counts as mask in 1 mask."
    assert np.array_equal(pixels(item(made, 0)) == 255, drawn(0, stray=7) > 0)


def test_more_masks_than_one_click_writes_are_left_for_the_next(
    dataset: Dataset, bring: Bring, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(with_strays(40, strays=3))
    monkeypatch.setattr(mask_edits, "MOST_REWRITTEN", 2)
    made = mask_edits.value_merge(dataset, layer="mask", value=7, into=0, base=1, user=alice)
    assert made.change.endswith("in 2 masks. 1 mask still holds it: press again for the next ones.")
    assert made.summary["problems"] == {"unknown_values": 1}
    monkeypatch.setattr(mask_edits, "MOST_PIXELS", 1)
    made = mask_edits.value_merge(dataset, layer="mask", value=7, into=0, base=2, user=alice)
    assert made.summary["problems"] == {}


def test_a_value_named_as_a_class_is_in_the_manifest_and_goes_with_the_history(
    dataset: Dataset, bring: Bring, alice: User
) -> None:
    first = bring(with_strays())
    made = mask_edits.value_name(dataset, layer="mask", value=7, name=" cristae ", base=1, user=alice)
    assert made.change == "Value 7 of mask is the class cristae now."
    assert made.summary["problems"] == {}
    assert revision_manifest(made).classes["mask"]["7"] == {"name": "cristae", "colour": "#F0E442"}
    with pytest.raises(EditRefused, match="a class, or the background, already"):
        mask_edits.value_name(dataset, layer="mask", value=7, name="again", base=2, user=alice)
    back = dataset_edits.revision_restore(first, base=2, user=alice)
    assert set(revision_manifest(back).classes["mask"]) == {"255"}
    assert Dataset.objects.get().classes == revision_manifest(back).classes


def test_empty_masks_are_kept_as_right_or_taken_off(dataset: Dataset, bring: Bring, alice: User) -> None:
    first = bring(with_strays(12, strays=0, empty=2))
    assert mask_counts.empty_layers(first) == {"mask": 2}
    kept = mask_edits.masks_accept_empty(dataset, layer="mask", base=1, user=alice)
    assert kept.change == "2 masks of mask kept as “nothing here”."
    assert (kept.summary["problems"], kept.summary["masks"]) == ({}, {"mask": 12})
    dataset_edits.revision_restore(first, base=2, user=alice)
    dropped = mask_edits.masks_drop_empty(dataset, layer="mask", base=3, user=alice)
    assert (dropped.summary["problems"], dropped.summary["masks"]) == ({}, {"mask": 10})
    with pytest.raises(EditRefused, match="No mask of mask is empty any more"):
        mask_edits.masks_drop_empty(dataset, layer="mask", base=4, user=alice)


def test_a_renamed_layer_takes_its_classes_and_its_problems_along(dataset: Dataset, bring: Bring, alice: User) -> None:
    first = bring(with_strays())
    made = mask_edits.layer_rename(dataset, layer="mask", to="mitochondria", base=1, user=alice)
    assert made.change == "The mask layer mask of 12 images is now named mitochondria."
    assert made.summary["masks"] == {"mitochondria": 12}
    assert set(Dataset.objects.get().classes) == {"mitochondria"}
    assert [each["text"] for each in item(made, 0).problems] == [
        "The mask mitochondria holds the value 7, which no class uses."
    ]
    assert np.array_equal(pixels(item(made, 3), "mitochondria"), drawn(3))
    assert "mask" in item(first, 3).masks
    for wrong in ("", "a/b", "x" * 101):
        with pytest.raises(EditRefused, match="1 to 100 characters"):
            mask_edits.layer_rename(dataset, layer="mitochondria", to=wrong, base=2, user=alice)


def test_a_layer_does_not_take_the_name_of_another(dataset: Dataset, bring: Bring, alice: User) -> None:
    bring(with_strays(3, strays=0) | {"masks_membranes/01.png": mask(5)})
    with pytest.raises(EditRefused, match="There is a mask layer membranes already"):
        mask_edits.layer_rename(dataset, layer="mask", to="membranes", base=1, user=alice)
    assert mask_counts.rules_of(newest(dataset)) == {"mask": {"folder": 3}, "membranes": {"folder": 1}}


def test_a_mask_that_was_taken_off_does_not_come_back_with_the_next_upload(
    dataset: Dataset, bring: Bring, alice: User
) -> None:
    first = bring(with_strays(4, strays=0))
    chosen = Selection(ids=[item(first, 2).pk])
    made = mask_edits.masks_detach(dataset, layer="mask", selection=chosen, base=1, user=alice)
    assert made.change == "1 mask of mask unpaired from its image."
    assert made.summary["problems"] == {"unpaired": 1}
    later = bring({"images/77.png": picture(77)})
    assert item(later, 2).masks == {}
    assert item(later, 2).facts["detached"]["mask"] == item(first, 2).masks["mask"]


def press(client: Client, dataset: Dataset, **fields: object) -> str:
    answer = client.post(f"/datasets/{dataset.pk}/masks/", {"layer": "mask", **fields}, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_the_doctor_offers_and_does_each_of_these_and_says_so(
    seen_by: Seen, dataset: Dataset, bring: Bring, bob: User, vera: User, charlie: User
) -> None:
    bring(with_strays(24, strays=1, empty=1))
    client = seen_by(bob)
    page = client.get(f"/datasets/{dataset.pk}/?tab=doctor").content.decode()
    assert "mask, value 7" in page
    assert "Keep as “nothing here”" in page
    assert "Set it for 24 images" in page
    assert "This is revision 2 now." in press(client, dataset, do="accept-empty", base=1)
    assert "counts as background in 1 mask. This is revision 3 now." in press(
        client, dataset, do="merge-value", value=7, into=0, base=2
    )
    assert "Choose what to do" in press(client, dataset, do="", base=3)
    fields = {"do": "measure", "all": "1", "filter-size": "unknown", "pixel_size": "5", "base": 3}
    client.post(f"/datasets/{dataset.pk}/edit/", fields)
    assert newest(dataset).summary["pixel_sizes"] == {"5": 24}
    address = f"/datasets/{dataset.pk}/masks/"
    assert seen_by(vera).post(address, {"do": "rename", "layer": "mask", "to": "x", "base": 4}).status_code == 403
    assert seen_by(charlie).post(address, {"do": "rename", "layer": "mask", "to": "x", "base": 4}).status_code == 404
    assert newest(dataset).number == 4
