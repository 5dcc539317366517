"""Changes to a dataset: each makes a revision, none touches an earlier one, and none is made twice or half."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ml_core.data.manifests import manifest
from tests.webapp.datasets.pages import test_dataset_page
from webapp.datasets import services
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Item, Revision
from webapp.datasets.queries.filters import Filters
from webapp.datasets.revisions import dataset_edits, item_edits, subsets
from webapp.datasets.revisions.draft import Selection
from webapp.datasets.revisions.manifests import revision_manifest
from webapp.projects.models import Project, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


def fill(dataset: Dataset, count: int) -> Revision:
    """A first revision of `count` rows without files, each at a position of its own."""
    revision = test_dataset_page.fill(dataset, count)
    for row in Item.objects.filter(dataset=dataset):
        Item.objects.filter(pk=row.pk).update(position=1000 * int(row.name[-8:-4]))
    return revision


def newest(dataset: Dataset) -> Revision:
    return dataset.revisions.latest("number")


def names(items: Iterable[Item]) -> list[str]:
    return [item.name[-8:-4] for item in items]


def chosen(dataset: Dataset, *numbers: int) -> Selection:
    wanted = [f"images/slice_{n:04d}.png" for n in numbers]
    rows = Item.objects.filter(dataset=dataset, removed_in=None, name__in=wanted)
    return Selection(ids=list(rows.values_list("pk", flat=True)))


def test_items_that_are_left_out_stay_in_the_revisions_before(dataset: Dataset, alice: User) -> None:
    first = fill(dataset, 6)
    second = item_edits.items_remove(dataset, selection=chosen(dataset, 2, 4), base=1, user=alice)
    assert names(first.items) == ["0000", "0001", "0002", "0003", "0004", "0005"]
    assert names(second.items) == ["0000", "0001", "0003", "0005"]
    assert (second.number, second.items_count, second.change) == (2, 4, "2 images left out.")
    assert names(revision_manifest(second).items) == names(second.items)  # type: ignore[arg-type]
    third = item_edits.items_remove(dataset, selection=Selection(filters=Filters(split="test")), base=2, user=alice)
    assert names(third.items) == ["0001", "0005"]


def test_a_label_makes_new_rows_for_those_that_change_and_leaves_the_others(dataset: Dataset, alice: User) -> None:
    first = fill(dataset, 5)
    before = set(first.items.values_list("pk", flat=True))
    second = item_edits.items_label(
        dataset, selection=chosen(dataset, 1, 2), label="  mouse  liver ", base=1, user=alice
    )
    assert second.summary["labels"] == {"": 3, "mouse liver": 2}
    assert len(before & set(second.items.values_list("pk", flat=True))) == 3
    assert {item.label for item in first.items} == {""}
    third = item_edits.items_label(dataset, selection=chosen(dataset, 1, 2, 3), label="mouse liver", base=2, user=alice)
    assert third.change == "1 image labelled mouse liver."


def test_an_edit_of_a_page_that_is_out_of_date_changes_nothing(dataset: Dataset, alice: User) -> None:
    fill(dataset, 4)
    stale = chosen(dataset, 1)
    item_edits.items_split(dataset, selection=chosen(dataset, 1), split="validation", base=1, user=alice)
    with pytest.raises(EditRefused, match="at revision 2 now"):
        item_edits.items_remove(dataset, selection=chosen(dataset, 1), base=1, user=alice)
    with pytest.raises(EditRefused, match="No item was chosen"):
        item_edits.items_remove(dataset, selection=stale, base=2, user=alice)
    both = Selection(ids=[*stale.ids, *chosen(dataset, 2).ids])
    with pytest.raises(EditRefused, match="no longer in the dataset"):
        item_edits.items_remove(dataset, selection=both, base=2, user=alice)
    assert newest(dataset).number == 2
    assert newest(dataset).items_count == 4


def test_items_of_another_dataset_are_not_touched(dataset: Dataset, project: Project, alice: User) -> None:
    fill(dataset, 3)
    other = services.dataset_create(project=project, user=alice, name="Other")
    fill(other, 3)
    with pytest.raises(EditRefused, match="No item was chosen"):
        item_edits.items_remove(dataset, selection=chosen(other, 1), base=1, user=alice)
    assert names(newest(other).items) == ["0000", "0001", "0002"]


def test_a_lone_stack_splits_into_blocks_with_a_gap_and_the_history_says_so(dataset: Dataset, alice: User) -> None:
    fill(dataset, 100)
    for row in Item.objects.filter(dataset=dataset):
        Item.objects.filter(pk=row.pk).update(group="stack A", index=int(row.name[-8:-4]))
    revision, sentence = dataset_edits.dataset_split(dataset, validation=0.2, test=0.2, seed=1, base=1, user=alice)
    assert "one stack (stack A): contiguous blocks with a gap of 10 slices" in sentence
    assert revision.change.endswith(sentence)
    sides = {item.index: item.split for item in revision.items}
    order = [sides[n] for n in range(100)]
    changes = [side for n, side in enumerate(order) if n == 0 or side != order[n - 1]]
    assert [side for side in changes if side] in (["train", "validation", "test"], ["test", "validation", "train"])
    assert order.count("") == 20
    with pytest.raises(EditRefused, match="split like this already"):
        dataset_edits.dataset_split(dataset, validation=0.2, test=0.2, seed=1, base=2, user=alice)


def test_groups_stay_on_one_side_when_a_dataset_is_split(dataset: Dataset, alice: User) -> None:
    fill(dataset, 40)
    for row in Item.objects.filter(dataset=dataset):
        Item.objects.filter(pk=row.pk).update(group=f"mouse {int(row.name[-8:-4]) % 8}")
    revision, _ = dataset_edits.dataset_split(dataset, validation=0.25, test=0.25, seed=0, base=1, user=alice)
    sides: dict[str, set[str]] = {}
    for item in revision.items:
        sides.setdefault(item.group, set()).add(item.split)
    assert all(len(each) == 1 for each in sides.values())
    assert {side for each in sides.values() for side in each} == {"train", "validation", "test"}


def test_inverting_twice_is_as_it_was_and_the_manifest_says_how_it_is(dataset: Dataset, alice: User) -> None:
    fill(dataset, 2)
    second = item_edits.items_invert(dataset, selection=chosen(dataset, 0), base=1, user=alice)
    assert [(item.low, item.high) for item in second.items] == [(255, 0), (0, 255)]
    assert [(item.low, item.high) for item in revision_manifest(second).items] == [(255, 0), (0, 255)]
    third = item_edits.items_invert(dataset, selection=chosen(dataset, 0), base=2, user=alice)
    assert [(item.low, item.high) for item in third.items] == [(0, 255), (0, 255)]


def test_a_pixel_size_that_no_microscope_has_is_refused(dataset: Dataset, alice: User) -> None:
    fill(dataset, 2)
    with pytest.raises(EditRefused, match=r"0\.001 to 1,000,000 nm"):
        item_edits.items_measure(dataset, selection=chosen(dataset, 0), pixel_size_nm=-5, base=1, user=alice)
    revision = item_edits.items_measure(dataset, selection=chosen(dataset, 0), pixel_size_nm=5, base=1, user=alice)
    assert revision.summary["pixel_sizes"] == {"": 1, "5": 1}


def test_when_one_of_two_equal_images_goes_the_other_is_no_duplicate(dataset: Dataset, alice: User) -> None:
    fill(dataset, 3)
    twin = "images/slice_0000.png"
    found = [{"kind": "duplicate", "text": "twice"}]
    Item.objects.filter(dataset=dataset, name="images/slice_0001.png").update(
        image=f"{0:064x}", facts={"duplicate_of": twin}, problems=found
    )
    revision = item_edits.items_remove(dataset, selection=chosen(dataset, 0), base=1, user=alice)
    assert [(item.problems, item.facts) for item in revision.items] == [([], {}), ([], {})]
    assert names(revision.items) == ["0001", "0002"]
    assert revision.summary["problems"] == {}


def test_an_earlier_revision_comes_back_as_a_new_one_with_the_same_manifest(dataset: Dataset, alice: User) -> None:
    fill(dataset, 6)
    second = item_edits.items_label(dataset, selection=chosen(dataset, 3), label="mouse", base=1, user=alice)
    item_edits.items_remove(dataset, selection=chosen(dataset, 1, 3), base=2, user=alice)
    fourth = dataset_edits.revision_restore(second, base=3, user=alice)
    assert fourth.manifest == second.manifest
    assert names(fourth.items) == names(second.items)
    assert fourth.change == "As revision 2 was."
    with pytest.raises(EditRefused, match="holds what the dataset holds now"):
        dataset_edits.revision_restore(fourth, base=4, user=alice)


def test_copies_keep_the_order_of_their_rows_wherever_the_database_keeps_those(dataset: Dataset, alice: User) -> None:
    first = test_dataset_page.fill(dataset, 6)
    Item.objects.filter(dataset=dataset).update(position=1000)  # the rows' own order is all that tells them apart
    written = [item.name for item in first.items.order_by("position", "id")]
    Item.objects.filter(dataset=dataset, name=written[0]).update(facts={"moved": True})  # to the end of its table
    item_edits.items_label(dataset, selection=Selection(filters=Filters()), base=1, label="fly", user=alice)
    assert [item.name for item in newest(dataset).items.order_by("position", "id")] == written


def test_the_same_seed_draws_the_same_sample_and_the_subset_shares_its_blobs(
    dataset: Dataset, project: Project, alice: User
) -> None:
    revision = fill(dataset, 60)
    filters = Filters(split="train")

    def draw(name: str, seed: int) -> Dataset:
        return subsets.subset_create(
            revision, project=project, name=name, filters=filters, sample=10, seed=seed, user=alice
        )

    one, two, three = draw("one", 7), draw("two", 7), draw("three", 8)
    assert names(newest(one).items) == names(newest(two).items) != names(newest(three).items)
    assert newest(one).items_count == 10
    assert newest(one).change == "Subset of Lucchi rev 3f9c: split train, a sample of 10 (seed 7)."
    assert {item.split for item in newest(one).items} == {"train"}
    assert {item.image for item in newest(one).items} <= {item.image for item in revision.items}
    with pytest.raises(EditRefused, match="40 images match; a sample has 1 to 40"):
        subsets.subset_create(revision, project=project, name="x", filters=filters, sample=41, user=alice)


def test_a_stratified_sample_of_several_labels_keeps_their_shares_to_the_item(
    dataset: Dataset, project: Project, alice: User
) -> None:
    revision = fill(dataset, 60)
    for n, item in enumerate(dataset.all_items.order_by("position")):
        label = "worm" if n < 30 else "liver" if n < 51 else "fly"
        Item.objects.filter(pk=item.pk).update(label=label)
    filters = Filters(label=("liver", "worm"))

    def shares(name: str, *, sample: int, seed: int, stratified: bool = True) -> tuple[int, int]:
        made = subsets.subset_create(
            revision,
            project=project,
            name=name,
            filters=filters,
            sample=sample,
            seed=seed,
            stratified=stratified,
            user=alice,
        )
        labels = [item.label for item in newest(made).items]
        assert made.origin == revision
        return labels.count("worm"), labels.count("liver")

    assert {shares("x", sample=17, seed=seed) for seed in range(3)} == {(10, 7)}
    assert shares("x", sample=12, seed=0) == (7, 5)
    assert shares("x", sample=51, seed=0) == (30, 21)
    assert len({shares("x", sample=17, seed=seed, stratified=False) for seed in range(6)}) > 1
    change = newest(Dataset.objects.filter(name="x")[0]).change
    assert change == "Subset of Lucchi rev 3f9c: label liver or worm, a sample of 17 (seed 0, by label)."


def test_classes_get_names_and_colours_in_a_new_revision(dataset: Dataset, alice: User) -> None:
    fill(dataset, 2)
    dataset.classes = {"mito": {"255": {"name": "mito", "colour": "#56B4E9"}}}
    dataset.save()
    named = {"255": {"name": "mitochondria", "colour": "#0072B2"}}
    revision = dataset_edits.classes_name(dataset, layer="mito", classes=named, base=1, user=alice)
    assert manifest.Manifest("", (), revision_manifest(revision).classes).classes == {
        "mito": {"255": {"name": "mitochondria", "colour": "#0072b2"}}
    }
    with pytest.raises(EditRefused, match="Class 38 of mito"):
        dataset_edits.classes_name(
            dataset, layer="mito", classes={"38": {"name": "x", "colour": "#000000"}}, base=2, user=alice
        )
    with pytest.raises(EditRefused, match="a colour"):
        dataset_edits.classes_name(
            dataset, layer="mito", classes={"255": {"name": "x", "colour": "red"}}, base=2, user=alice
        )
