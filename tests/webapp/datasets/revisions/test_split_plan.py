"""A split is shown before it is made: by shares, by folder, stacks on one side, a lone stack in blocks with a gap."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from tests.webapp.datasets.revisions.test_item_edits import fill, newest
from webapp.datasets import services
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Item
from webapp.datasets.revisions import dataset_edits
from webapp.datasets.revisions.split_plan import FOLDERS, SplitPlan, SplitRequest, split_plan
from webapp.projects.models import Project, User

__all__ = ["seen_by"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


def stacks(dataset: Dataset, count: int, *, of: int) -> None:
    """`count` images in stacks of `of` slices, without a split."""
    fill(dataset, count)
    for row in Item.objects.filter(dataset=dataset):
        number = int(row.name[-8:-4])
        Item.objects.filter(pk=row.pk).update(group=f"mouse {number // of}", index=number % of, split="")


def images(plan: SplitPlan) -> dict[str, int]:
    return {side.name: side.images for side in plan.sides}


def test_a_plan_says_what_each_side_gets_and_by_which_rule_and_is_what_is_made(dataset: Dataset, alice: User) -> None:
    stacks(dataset, 80, of=10)
    plan = split_plan(newest(dataset).items, SplitRequest(validation=0.25, test=0.25, seed=3))
    assert plan.sentence == "By stack: all images of a stack are in one part (8 groups, seed 3)."
    assert images(plan) == {"train": 40, "validation": 20, "test": 20, "": 0}
    assert [(side.share, side.stacks) for side in plan.sides] == [("50", 4), ("25", 2), ("25", 2), ("0", 0)]
    assert plan.moved == 80
    assert newest(dataset).number == 1, "a plan changes nothing"
    dataset_edits.dataset_split(dataset, validation=0.25, test=0.25, seed=3, base=1, user=alice)
    assert newest(dataset).summary["splits"] == {"test": 20, "train": 40, "validation": 20}
    sides = defaultdict(set)
    for item in newest(dataset).items:
        sides[item.group].add(item.split)
    assert {len(each) for each in sides.values()} == {1}
    assert split_plan(newest(dataset).items, SplitRequest(validation=0.25, test=0.25, seed=3)).moved == 0


def test_a_lone_stack_is_planned_in_blocks_and_the_slices_of_the_gaps_get_no_side(dataset: Dataset) -> None:
    stacks(dataset, 100, of=100)
    plan = split_plan(newest(dataset).items, SplitRequest(validation=0.2, test=0.2, seed=1))
    assert "All images are of one stack (mouse 0): contiguous blocks with a gap of 10 slices" in plan.sentence
    assert images(plan)[""] == 20
    assert [side.stacks for side in plan.sides] == [1, 1, 1, 1]


def test_folders_named_train_and_test_bring_their_split_back(dataset: Dataset, alice: User) -> None:
    fill(dataset, 9)
    for row in Item.objects.filter(dataset=dataset):
        folder = ("Train_In", "set/testing/images", "other")[int(row.name[-8:-4]) % 3]
        Item.objects.filter(pk=row.pk).update(name=row.name.replace("images", folder), split="")
    plan = split_plan(newest(dataset).items, SplitRequest(rule=FOLDERS))
    assert images(plan) == {"train": 3, "validation": 0, "test": 3, "": 3}
    assert plan.sentence.endswith("3 images lie in no such folder and get no split.")
    dataset_edits.dataset_split(dataset, rule=FOLDERS, base=1, user=alice)
    assert newest(dataset).summary["splits"] == {"": 3, "test": 3, "train": 3}
    with pytest.raises(EditRefused, match=r"split like this already\.$"):
        dataset_edits.dataset_split(dataset, rule=FOLDERS, base=2, user=alice)


def test_where_no_folder_names_a_side_the_plan_says_what_else_can_be_done(dataset: Dataset) -> None:
    fill(dataset, 3)
    with pytest.raises(EditRefused, match="No image lies in a folder named train, validation or test"):
        split_plan(newest(dataset).items, SplitRequest(rule=FOLDERS))
    with pytest.raises(EditRefused, match="by shares or by folders"):
        split_plan(newest(dataset).items, SplitRequest(rule="moon"))


def test_the_page_shows_the_split_before_a_button_makes_it(
    seen_by: Seen, dataset: Dataset, bob: User, vera: User
) -> None:
    stacks(dataset, 80, of=10)
    client, address = seen_by(bob), f"/datasets/{dataset.pk}/?tab=splits"
    asked = "&rule=shares&validation=25&test=12,5&seed=3"
    page = client.get(address + asked).content.decode()
    assert "What this gives" in page
    assert "(8 groups, seed 3)." in page
    assert "80 images move to another part. Nothing has been changed yet." in page
    assert 'name="test" value="12.5"' in page
    assert newest(dataset).number == 1
    fields = {"rule": "shares", "validation": "25", "test": "12.5", "seed": "3", "base": "1"}
    made = client.post(f"/datasets/{dataset.pk}/split/", fields, follow=True).content.decode()
    assert "Split again: train 50, validation 20, test 10." in made
    assert "split like this already" in client.get(address + asked).content.decode()
    refused = client.get(address + "&rule=shares&validation=90&test=20").content.decode()
    assert "together less than all" in refused
    assert "No image lies in a folder" in client.get(address + "&rule=folders").content.decode()
    assert "What this gives" not in seen_by(vera).get(address).content.decode()
