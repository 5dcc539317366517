"""What stands on two sides of a split although it shows the same is found, counted and shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml_core.data import synthetic
from tests.webapp.datasets.intake.test_commit import upload
from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from tests.webapp.datasets.revisions.test_item_edits import fill, newest
from webapp.datasets import services
from webapp.datasets.models import Dataset, Item
from webapp.datasets.revisions import dataset_edits, item_edits
from webapp.datasets.revisions.draft import Selection
from webapp.projects.models import Project, User

__all__ = ["seen_by"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


def remake(dataset: Dataset, user: User) -> list[dict[str, object]]:
    """A new revision of the rows as they are; returns its leaks."""
    item = Item.objects.filter(dataset=dataset, removed_in=None).first()
    assert item is not None
    label = f"l{item.pk}"
    item_edits.items_label(
        dataset, selection=Selection(ids=[item.pk]), label=label, base=newest(dataset).number, user=user
    )
    found = newest(dataset).summary["leaks"]
    assert isinstance(found, list)
    return found


def test_neighbouring_slices_on_two_sides_are_counted_and_a_gap_heals_it(dataset: Dataset, alice: User) -> None:
    fill(dataset, 60)
    for row in dataset.all_items.all():
        number = int(row.name[-8:-4])
        side = "train" if number < 30 else "test"
        dataset.all_items.filter(pk=row.pk).update(group="A", index=number, split=side)
    (leak,) = remake(dataset, alice)
    assert (leak["kind"], leak["count"]) == ("neighbours", 1)
    assert "slice_0029.png and images/slice_0030.png are neighbours in the stack A" in str(leak["sentence"])
    dataset_edits.dataset_split(dataset, validation=0.2, test=0.2, seed=1, base=2, user=alice)
    assert newest(dataset).summary["leaks"] == []


def test_images_that_look_alike_on_two_sides_are_shown_as_pairs(seen_by: Seen, dataset: Dataset, alice: User) -> None:
    fill(dataset, 6)
    alike = {0: "0123456789abcdef", 1: "0123456789abcdee", 2: "fedcba9876543210"}
    for row in dataset.all_items.all():
        number = int(row.name[-8:-4])
        dataset.all_items.filter(pk=row.pk).update(facts={"likeness": alike[number]} if number in alike else {})
    (leak,) = remake(dataset, alice)
    assert (leak["kind"], leak["count"]) == ("alike", 1)
    page = seen_by(alice).get(f"/datasets/{dataset.pk}/?tab=doctor").content.decode()
    assert "1 pair of images look the same" in page
    assert page.count("thumbnail.webp") == 2
    splits = seen_by(alice).get(f"/datasets/{dataset.pk}/?tab=splits").content.decode()
    assert "1 pair of images look the same" in splits


def test_slices_that_share_a_stack_are_not_told_of_twice(dataset: Dataset, alice: User) -> None:
    fill(dataset, 2)
    for row, side in zip(dataset.all_items.order_by("name"), ("train", "test"), strict=True):
        facts = {"likeness": "0123456789abcdef"}
        dataset.all_items.filter(pk=row.pk).update(group="A", index=50 * (side == "test"), split=side, facts=facts)
    assert remake(dataset, alice) == []


def test_an_upload_is_looked_at_for_look_alikes(dataset: Dataset, alice: User, tmp_path: Path) -> None:
    grey, _ = synthetic.micrograph(4, size=128)
    flatter = (grey * 0.7 + 30).astype(np.uint8)
    other, _ = synthetic.micrograph(5, size=128)
    upload(dataset, {"train/a.png": grey, "test/b.png": flatter, "test/c.png": other}, user=alice, folder=tmp_path)
    (leak,) = newest(dataset).summary["leaks"]
    names = {item.pk: item.name for item in newest(dataset).items}
    assert [{names[a], names[b]} for a, b in leak["examples"]] == [{"train/a.png", "test/b.png"}]
