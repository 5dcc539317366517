"""Masks that wait, when there are many: pages of them, in the order of their numbers, and a search by name."""

from __future__ import annotations

import re

import pytest

from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from webapp.datasets.models import Dataset, Revision, Upload
from webapp.datasets.queries.unpaired_masks import PAGE, waiting_one, waiting_page
from webapp.datasets.revisions.manifests import revision_create
from webapp.datasets.uploads.services import upload_create
from webapp.projects.models import Project, User

__all__ = ["seen_by"]
pytestmark = pytest.mark.django_db
NUMBER = 2 * PAGE + 5


@pytest.fixture
def revision(project: Project, alice: User) -> Revision:
    """Of a dataset with no image, for which masks came: `slice_1` to `slice_125`, not in this order, and one stack."""
    dataset = Dataset.objects.create(project=project, name="Lucchi")
    facts = {"sha256": "a" * 64, "values": {"0": 80, "1": 1}, "width": 9, "height": 9}
    files = {f"masks/slice_{n}.png": [{"page": 0, **facts}] for n in reversed(range(1, NUMBER - 1))}
    files["masks/stack.tif"] = [{"page": page, **facts} for page in (1, 0)]
    came(dataset, files, user=alice)
    return revision_create(dataset, number=1, change="Nothing paired.", user=alice)


def came(dataset: Dataset, files: dict[str, list[dict[str, object]]], *, user: User) -> None:
    upload = upload_create(dataset=dataset, user=user, filename="masks.zip", length=1)
    Upload.objects.filter(pk=upload.pk).update(state=Upload.State.DONE, report={"waiting_masks": files})


def test_pages_follow_the_numbers_in_the_names_and_miss_none(revision: Revision) -> None:
    pages = [waiting_page(revision, at=at) for at in range(0, NUMBER, PAGE)]
    assert [len(rows) for rows, _ in pages] == [PAGE, PAGE, 5]
    assert {count for _, count in pages} == {NUMBER}
    found = [(each.name, each.page) for rows, _ in pages for each in rows]
    slices = [(f"masks/slice_{n}.png", 0) for n in range(1, NUMBER - 1)]
    assert found == [*slices, ("masks/stack.tif", 0), ("masks/stack.tif", 1)]


def test_a_page_beyond_the_end_is_the_first(revision: Revision) -> None:
    assert waiting_page(revision, at=10 * PAGE) == waiting_page(revision)


def test_a_search_knows_numbers_as_that_of_images_does(revision: Revision) -> None:
    rows, count = waiting_page(revision, name="slice 012")
    assert ([each.name for each in rows], count) == (["masks/slice_12.png"], 1)
    assert waiting_page(revision, name="nothing of that name") == ([], 0)


def test_one_is_found_by_its_key_and_of_two_of_a_name_the_later_is_meant(revision: Revision, alice: User) -> None:
    again = {"page": 0, "sha256": "b" * 64, "values": {"0": 4}, "width": 2, "height": 2}
    came(revision.dataset, {"masks/slice_7.png": [again]}, user=alice)
    found = waiting_one(revision, "0:masks/slice_7.png")
    assert found is not None
    assert (found.width, found.mask["sha256"]) == (2, "b" * 64)
    assert waiting_page(revision)[1] == NUMBER
    for key in ("1:masks/slice_7.png", "masks/slice_7.png", "", "0:\0"):
        assert waiting_one(revision, key) is None, repr(key)


def test_the_tab_turns_pages_searches_and_says_when_nothing_is_found(
    seen_by: Seen, revision: Revision, alice: User
) -> None:
    client, address = seen_by(alice), f"/datasets/{revision.dataset_id}/?tab=masks"
    first = client.get(address).content.decode()
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older, "there is no way to the next page"
    assert "slice_60.png" in first
    assert "slice_61.png" not in first
    second = client.get(f"/datasets/{revision.dataset_id}/{older[1].replace('&amp;', '&')}").content.decode()
    assert "slice_61.png" in second
    assert 'rel="prev"' in second
    found = client.get(f"{address}&seek=slice+61").content.decode()
    assert "slice_61.png" in found
    assert "slice_60.png" not in found
    assert "No unpaired mask has a name like this." in client.get(f"{address}&seek=fly").content.decode()
    for at in ("9" * 30, "-1", "x"):
        assert client.get(f"{address}&at={at}&waiting=0:%00").status_code == 200, at
