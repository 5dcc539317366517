"""Images that look the same on two sides of the split are brought to one side, or one of each is left out."""

from __future__ import annotations

import pytest

from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from tests.webapp.datasets.revisions.test_item_edits import dataset, fill
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Item, Revision
from webapp.datasets.revisions import item_edits, near_duplicates
from webapp.datasets.revisions.draft import Selection
from webapp.projects.models import User

__all__ = ["dataset", "seen_by"]

pytestmark = pytest.mark.django_db


def with_twins(dataset: Dataset, user: User) -> Revision:
    """Images 0 (test), 1 and 2 (train) look the same; the others have looks of their own."""
    fill(dataset, 6)
    looks = ["0f1e2d3c4b5a6978"] * 3 + ["ff00ff00ff00ff00", "00ffff0000ffff00", "f0f0f0f00f0f0f0f"]
    rows = list(dataset.all_items.order_by("name"))
    for row, look in zip(rows, looks, strict=True):
        Item.objects.filter(pk=row.pk).update(facts={"likeness": look})
    return item_edits.items_label(dataset, selection=Selection(ids=[rows[5].pk]), label="x", base=1, user=user)


def sides(revision: Revision) -> dict[str, str]:
    return {item.name[-5]: item.split for item in revision.items}


def test_look_alikes_go_to_the_side_where_most_of_them_stand(dataset: Dataset, alice: User) -> None:
    before = with_twins(dataset, alice)
    assert [leak["kind"] for leak in before.summary["leaks"]] == ["alike"]
    made = near_duplicates.near_duplicates_align(dataset, base=2, user=alice)
    assert made.change == "1 image moved to the part of those that look the same."
    assert sides(made) == {**sides(before), "0": "train"}
    assert made.summary["leaks"] == []
    with pytest.raises(EditRefused, match="No two images"):
        near_duplicates.near_duplicates_align(dataset, base=3, user=alice)


def test_or_those_in_training_are_left_out_by_a_button_of_the_doctor(
    seen_by: Seen, dataset: Dataset, bob: User
) -> None:
    with_twins(dataset, bob)
    client = seen_by(bob)
    assert "Leave one of each out" in client.get(f"/datasets/{dataset.pk}/?tab=doctor").content.decode()
    answer = client.post(f"/datasets/{dataset.pk}/masks/", {"do": "remove-twins", "base": 2}, follow=True)
    page = answer.content.decode()
    assert "left out. This is revision 3 now." in page
    assert "Leave one of each out" not in page
    assert set(sides(Revision.objects.get(dataset_id=dataset.pk, number=3))) == {"0", "3", "4", "5"}
