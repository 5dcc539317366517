"""The forms that change a dataset: who may, what they say, and that the page comes back as it was."""

from __future__ import annotations

import csv
import io

import pytest
from django.test import Client

from tests.webapp.datasets.pages.test_dataset_page import Seen, names_on, seen_by
from tests.webapp.datasets.revisions.test_item_edits import chosen, fill, newest
from webapp.datasets import services
from webapp.datasets.models import Dataset
from webapp.projects.models import Project, User

__all__ = ["seen_by"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


def send(client: Client, dataset: Dataset, *numbers: int, base: int = 1, **fields: str) -> str:
    """Presses a button above the grid; returns the page that comes back."""
    ids = list(chosen(dataset, *numbers).ids)
    answer = client.post(f"/datasets/{dataset.pk}/edit/", {"base": base, "item": ids, **fields}, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_chosen_images_are_left_out_and_the_page_says_so(seen_by: Seen, dataset: Dataset, bob: User) -> None:
    fill(dataset, 5)
    page = send(seen_by(bob), dataset, 1, 3, do="remove")
    assert "2 images left out. This is revision 2 now." in page
    assert [name[-8:-4] for name in names_on(page)] == ["0000", "0002", "0004"]


def test_all_that_a_filter_matches_can_be_chosen_and_the_filter_stays(
    seen_by: Seen, dataset: Dataset, bob: User
) -> None:
    fill(dataset, 90)
    fields = {"do": "split", "split": "validation", "all": "1", "filter-split": "test"}
    answer = seen_by(bob).post(f"/datasets/{dataset.pk}/edit/", {"base": 1, **fields})
    assert answer["Location"] == f"/datasets/{dataset.pk}/?split=test"
    assert newest(dataset).summary["splits"] == {"train": 60, "validation": 30}


def test_every_side_of_the_split_can_be_chosen_and_none_means_none(seen_by: Seen, dataset: Dataset, bob: User) -> None:
    fill(dataset, 3)
    for number, side in enumerate(("validation", "none", "test", "train"), start=1):
        send(seen_by(bob), dataset, 0, do="split", split=side, base=number)
    assert [each.change for each in dataset.revisions.order_by("number")][1:] == [
        "1 image put into validation.",
        "1 image taken out of the split.",
        "1 image put into test.",
        "1 image put into train.",
    ]
    assert "Choose train, validation, test or no split." in send(seen_by(bob), dataset, 0, do="split", base=5)


@pytest.mark.parametrize(("text", "size"), [("5", 5.0), ("4,25", 4.25), ("", None)])
def test_a_pixel_size_is_read_as_people_write_it(
    seen_by: Seen, dataset: Dataset, bob: User, text: str, size: float | None
) -> None:
    fill(dataset, 2)
    dataset.all_items.update(pixel_size_nm=1.0)
    send(seen_by(bob), dataset, 0, do="measure", pixel_size=text)
    assert [item.pixel_size_nm for item in newest(dataset).items] == [size, 1.0]


@pytest.mark.parametrize("text", ["five", "-1", "nan", "1e400"])
def test_a_pixel_size_that_is_no_number_is_refused(seen_by: Seen, dataset: Dataset, bob: User, text: str) -> None:
    fill(dataset, 2)
    assert "A pixel measures" in send(seen_by(bob), dataset, 0, do="measure", pixel_size=text)
    assert newest(dataset).number == 1


def test_a_viewer_may_list_but_not_change_and_a_stranger_sees_nothing(
    seen_by: Seen, dataset: Dataset, vera: User, charlie: User
) -> None:
    revision = fill(dataset, 4)
    posts = [
        (f"/datasets/{dataset.pk}/edit/", {"do": "remove", "all": "1", "base": 1}),
        (f"/datasets/{dataset.pk}/split/", {"validation": "20", "test": "20", "base": 1}),
        (f"/datasets/{dataset.pk}/classes/", {"layer": "x", "base": 1}),
        (f"/revisions/{revision.pk}/restore/", {"base": 1}),
        (f"/revisions/{revision.pk}/subset/", {"name": "x"}),
    ]
    for address, fields in posts:
        assert seen_by(vera).post(address, fields).status_code == 403
        assert seen_by(charlie).post(address, fields).status_code == 404
    assert newest(dataset).number == 1
    assert 'id="bulk"' not in seen_by(vera).get(f"/datasets/{dataset.pk}/").content.decode()
    listing = f"/datasets/{dataset.pk}/list.csv"
    assert seen_by(charlie).post(listing, {"all": "1"}).status_code == 404
    answer = seen_by(vera).post(listing, {"all": "1", "filter-split": "test"})
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))  # type: ignore[arg-type]
    assert [row["name"][-8:-4] for row in rows] == ["0000", "0003"]
    assert answer["Content-Disposition"] == 'attachment; filename="Lucchi.csv"'


def test_the_history_brings_a_revision_back_and_says_what_each_changed(
    seen_by: Seen, dataset: Dataset, bob: User
) -> None:
    first = fill(dataset, 5)
    client = seen_by(bob)
    send(client, dataset, 1, do="label", label="mouse")
    send(client, dataset, 2, do="remove", base=2)
    page = client.get(f"/datasets/{dataset.pk}/?tab=history&revision=2").content.decode()
    assert "1 changed." in page
    assert "label: none to mouse" in page
    assert "1 left out." in client.get(f"/datasets/{dataset.pk}/?tab=history&revision=3").content.decode()
    page = client.post(f"/revisions/{first.pk}/restore/", {"base": 3}, follow=True).content.decode()
    assert "As revision 1 was. This is revision 4 now." in page
    assert newest(dataset).items_count == 5


def test_the_splits_page_counts_images_and_stacks_and_splits_anew(seen_by: Seen, dataset: Dataset, bob: User) -> None:
    fill(dataset, 40)
    for row in dataset.all_items.all():
        dataset.all_items.filter(pk=row.pk).update(group=f"mouse {int(row.name[-8:-4]) % 8}", split="")
    client = seen_by(bob)
    fields = {"validation": "25", "test": "25", "seed": "3", "base": 1}
    page = client.post(f"/datasets/{dataset.pk}/split/", fields, follow=True).content.decode()
    assert "Split again: train 20, validation 10, test 10. By stack" in page
    rows = [words.split("</tr>")[0] for words in page.split("<tr>")]
    assert any(">Train</a>" in row and ">20<" in row and ">4<" in row for row in rows)
    fields["validation"] = "80"
    assert (
        "together less than all"
        in client.post(f"/datasets/{dataset.pk}/split/", {**fields, "base": 2}, follow=True).content.decode()
    )


def test_a_subset_is_made_of_what_the_page_shows(seen_by: Seen, dataset: Dataset, bob: User) -> None:
    revision = fill(dataset, 9)
    fields = {"name": "Lucchi, test", "filter-split": "test", "sample": "", "seed": "0"}
    page = seen_by(bob).post(f"/revisions/{revision.pk}/subset/", fields, follow=True).content.decode()
    assert "The dataset Lucchi, test is made." in page
    assert [name[-8:-4] for name in names_on(page)] == ["0000", "0003", "0006"]
    fields["name"] = " "
    assert (
        "Give the subset a name"
        in seen_by(bob).post(f"/revisions/{revision.pk}/subset/", fields, follow=True).content.decode()
    )


def test_the_doctor_cures_by_one_click_what_can_be_cured_so(seen_by: Seen, dataset: Dataset, bob: User) -> None:
    fill(dataset, 5)
    found = [{"kind": "constant", "text": "All pixels have the same value."}]
    dataset.all_items.filter(name__endswith="3.png").update(problems=found)
    client = seen_by(bob)
    send(client, dataset, 0, do="label", label="mouse")
    page = client.get(f"/datasets/{dataset.pk}/?tab=doctor").content.decode()
    assert 'name="filter-problem" value="constant"' in page
    assert "Leave all out" in page
    fields = {"do": "remove", "all": "1", "filter-problem": "constant", "base": 2}
    client.post(f"/datasets/{dataset.pk}/edit/", fields)
    assert [item.name[-8:-4] for item in newest(dataset).items] == ["0000", "0001", "0002", "0004"]
    assert newest(dataset).summary["problems"] == {}
