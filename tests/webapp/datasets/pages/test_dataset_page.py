"""The grid, its filters and pages, the doctor, the history, and what the viewer is told of an item."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from tests.webapp.datasets.intake.test_commit import upload
from webapp.datasets.models import Dataset, Item, Revision, Upload
from webapp.datasets.services import dataset_create
from webapp.jobs.models import Artifact, Event, Job, Queue, State
from webapp.projects.models import Membership, Project, Role, User

pytestmark = pytest.mark.django_db

Seen = Callable[..., Client]
NOISE = np.random.default_rng(0).integers(0, 255, (32, 48), dtype=np.uint8)


@pytest.fixture
def seen_by() -> Seen:
    def enter(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return enter


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return dataset_create(project=project, user=alice, name="Lucchi")


def fill(dataset: Dataset, count: int, **fields: Any) -> Revision:
    """A first revision of `count` rows without files. Positions are not dense, and seven items share each of them."""
    Item.objects.bulk_create(
        Item(
            dataset=dataset,
            added_in=1,
            position=(n // 7) * 1000 - 5000,
            name=f"images/slice_{n:04d}.png",
            image=f"{n:064x}",
            width=48,
            height=32,
            dtype="uint8",
            low=0,
            high=255,
            thumbnail="",
            split="train" if n % 3 else "test",
            **fields,
        )
        for n in range(count)
    )
    tests = len(range(0, count, 3))
    summary = {"splits": {"test": tests, "train": count - tests}, "with_mask": 0, "pixel_sizes": {"": count}}
    return Revision.objects.create(
        dataset=dataset, number=1, manifest="3f9c" + "0" * 60, items_count=count, summary=summary, change="All added."
    )


def shown(first: int, last: int, *, of: int) -> str:
    return f"{first}\N{EN DASH}{last} of {of}"


def names_on(page: str) -> list[str]:
    return re.findall(r'title="(images/[^"]+)"', page)


def follow(client: Client, dataset: Dataset, page: str, rel: str) -> str:
    """The page behind the link `rel`, or an empty text where there is none."""
    link = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    return client.get(f"/datasets/{dataset.pk}/{link[1].replace('&amp;', '&')}").content.decode() if link else ""


def test_pages_forwards_and_backwards_show_every_item_once_and_in_the_same_order(
    seen_by: Seen, dataset: Dataset, alice: User
) -> None:
    fill(dataset, 145)
    client = seen_by(alice)
    page = client.get(f"/datasets/{dataset.pk}/").content.decode()
    pages = [page]
    while page := follow(client, dataset, page, "next"):
        pages.append(page)
    assert [name for each in pages for name in names_on(each)] == [f"images/slice_{n:04d}.png" for n in range(145)]
    for words, each in zip((shown(1, 60, of=145), shown(61, 120, of=145), shown(121, 145, of=145)), pages, strict=True):
        assert words in each
    back = follow(client, dataset, pages[2], "prev")
    assert (names_on(back), shown(61, 120, of=145) in back) == (names_on(pages[1]), True)
    first = follow(client, dataset, back, "prev")
    assert names_on(first) == names_on(pages[0])
    assert 'rel="prev"' not in first


def test_a_filter_stays_in_the_addresses_of_pages_and_items(seen_by: Seen, dataset: Dataset, alice: User) -> None:
    fill(dataset, 240)
    client = seen_by(alice)
    page = client.get(f"/datasets/{dataset.pk}/?split=test").content.decode()
    assert shown(1, 60, of=80) in page
    assert "?split=test" in page
    rest = follow(client, dataset, page, "next")
    assert names_on(rest) == [f"images/slice_{n:04d}.png" for n in range(180, 240, 3)]
    item = dataset.all_items.get(name="images/slice_0003.png")
    viewer = client.get(f"/items/{item.pk}/?split=test").content.decode()
    after = dataset.all_items.get(name="images/slice_0006.png")
    assert "2 of 80" in viewer
    assert f"/items/{after.pk}/?split=test" in viewer


def test_a_filter_that_nothing_matches_says_so_and_offers_to_clear_it(
    seen_by: Seen, dataset: Dataset, alice: User
) -> None:
    fill(dataset, 3)
    page = seen_by(alice).get(f"/datasets/{dataset.pk}/?label=liver&group=A").content.decode()
    assert "No item matches these 2 filters." in page
    assert "Clear the filters" in page


@pytest.mark.parametrize("query", ["after=x", "after=1_", "after=99999999999999999999_1", "before=-1_-1", "at=0x"])
def test_an_address_that_somebody_garbled_shows_the_first_page(
    seen_by: Seen, dataset: Dataset, alice: User, query: str
) -> None:
    fill(dataset, 3)
    answer = seen_by(alice).get(f"/datasets/{dataset.pk}/?{query}")
    assert shown(1, 3, of=3) in answer.content.decode()


def test_an_empty_dataset_is_a_drop_zone_for_editors_and_a_sentence_for_viewers(
    seen_by: Seen, dataset: Dataset, bob: User, vera: User
) -> None:
    address = f"/datasets/{dataset.pk}/"
    assert f'data-endpoint="/datasets/{dataset.pk}/uploads/"' in seen_by(bob).get(address).content.decode()
    page = seen_by(vera).get(address).content.decode()
    assert "data-endpoint" not in page
    assert "This dataset is empty." in page


def test_a_dataset_is_made_by_name(seen_by: Seen, project: Project, bob: User, vera: User, charlie: User) -> None:
    address = f"/projects/{project.pk}/datasets/new/"
    refused = seen_by(bob).post(address, {"name": " "})
    assert refused.status_code == 422
    assert "Give the dataset a name." in refused.content.decode()
    made = seen_by(bob).post(address, {"name": "Kasthuri"})
    dataset = Dataset.objects.get(name="Kasthuri", created_by=bob)
    assert (made.status_code, made.headers["Location"]) == (302, f"/datasets/{dataset.pk}/")
    assert seen_by(vera).post(address, {"name": "Mine"}).status_code == 403
    assert seen_by(charlie).post(address, {"name": "Mine"}).status_code == 404
    assert Dataset.objects.count() == 1


def test_strangers_see_neither_dataset_nor_item(seen_by: Seen, dataset: Dataset, vera: User, charlie: User) -> None:
    fill(dataset, 1)
    for address in (f"/datasets/{dataset.pk}/", f"/items/{dataset.all_items.get().pk}/"):
        assert seen_by(vera).get(address).status_code == 200
        assert seen_by(charlie).get(address).status_code == 404
        assert Client().get(address).status_code == 302


def test_a_page_of_the_grid_costs_the_same_queries_whatever_it_shows(
    seen_by: Seen, dataset: Dataset, alice: User, django_assert_max_num_queries: Any
) -> None:
    fill(dataset, 130)
    client = seen_by(alice)
    with django_assert_max_num_queries(16):
        client.get(f"/datasets/{dataset.pk}/")


def test_after_an_upload_the_page_says_what_paired_and_what_was_left_out_and_why(
    seen_by: Seen, dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    mask = np.where(NOISE > 128, 255, 0).astype(np.uint8)
    files = {"images/a.png": NOISE, "images/b.png": 255 - NOISE, "masks/a.png": mask, "masks/c.png": mask}
    upload(dataset, {**files, "images/broken.png": b"\x89PNG\r\n\x1a\nnot"}, user=alice, folder=tmp_path)
    page = seen_by(alice).get(f"/datasets/{dataset.pk}/").content.decode()
    assert "2 images added, 1 mask paired by folder, 1 unpaired. 1 file left out." in page
    assert "images/broken.png" in page
    assert "masks/c.png" in page
    assert "rev <span" in page
    doctor = seen_by(alice).get(f"/datasets/{dataset.pk}/?tab=doctor").content.decode()
    assert "Images without a mask, while others have one" in doctor
    assert "images/b.png" in doctor
    history = seen_by(alice).get(f"/datasets/{dataset.pk}/?tab=history").content.decode()
    assert dataset.revisions.get().change in history


def test_an_upload_that_could_not_be_read_says_why(seen_by: Seen, dataset: Dataset, alice: User) -> None:
    reason = "lucchi.zip is not a whole zip file: its end is missing. Add it again."
    job = Job.objects.create(
        project=dataset.project,
        kind="intake",
        name="Reading",
        spec={},
        queue=Queue.IO,
        state=State.FAILED,
        reason=reason,
    )
    Upload.objects.create(
        dataset=dataset, filename="lucchi.zip", length=5, offset=5, state=Upload.State.READING, job=job,
        expires_at=timezone.now(),
    )  # fmt: skip
    page = seen_by(alice).get(f"/datasets/{dataset.pk}/").content.decode()
    assert f"Not imported. {reason}" in page
    assert "data-reading-job" not in page


def test_an_earlier_revision_shows_what_it_held_and_takes_no_files(
    seen_by: Seen, dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    upload(dataset, {"images/a.png": NOISE}, user=alice, folder=tmp_path)
    upload(dataset, {"images/b.png": 255 - NOISE}, user=alice, folder=tmp_path)
    client = seen_by(alice)
    assert names_on(client.get(f"/datasets/{dataset.pk}/").content.decode()) == ["images/a.png", "images/b.png"]
    earlier = client.get(f"/datasets/{dataset.pk}/?revision=1").content.decode()
    assert names_on(earlier) == ["images/a.png"]
    assert "This is revision 1" in earlier
    assert "data-endpoint" not in earlier
    assert client.get(f"/datasets/{dataset.pk}/?revision=9").status_code == 404


def made_of(item: Item, kind: str, *, project: Project, **facts: Any) -> Artifact:
    job = Job.objects.create(project=project, kind="segment", name="U-Net", spec={}, queue=Queue.DEVICE)
    event = Event.objects.create(job=job, epoch=1, kind="artifact", time=timezone.now())
    return Artifact.objects.create(
        job=job, event=event, kind=kind, name=f"{kind}.png", sha256="0" * 64, size=1, media_type="image/png", epoch=1,
        facts={"image": item.image, "page": item.page, **facts},
    )  # fmt: skip


def viewer_data(client: Client, item: Item) -> dict[str, Any]:
    page = client.get(f"/items/{item.pk}/").content.decode()
    found = re.search(r'<script id="viewer-data" type="application/json">(.*?)</script>', page)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_viewer_offers_what_this_projects_jobs_made_of_these_very_pixels(
    seen_by: Seen, dataset: Dataset, project: Project, alice: User
) -> None:
    fill(
        dataset, 2, masks={"mitochondria": {"sha256": "1" * 64, "page": 0, "name": "m", "rule": "folder", "values": {}}}
    )
    one, other = dataset.all_items.all()
    elsewhere = Project.objects.create(name="Elsewhere")
    Membership.objects.create(project=elsewhere, user=alice, role=Role.OWNER)
    old = made_of(one, "prediction", project=project, classes=[0, 255])
    new = made_of(one, "prediction", project=project, classes=[0, 255], foreground_iou=0.8)
    made_of(other, "prediction", project=project)
    made_of(one, "prediction", project=elsewhere)
    made_of(one, "prediction", project=project, page=3)
    cam = made_of(one, "cam", project=project, method="grad-cam", layer="decoder", target="mitochondria")
    data = viewer_data(seen_by(alice), one)
    assert [run["id"] for run in data["predictions"]] == [new.pk, old.pk]
    assert data["predictions"][0]["url"] == f"/artifacts/{new.pk}/prediction.png"
    assert [run["id"] for run in data["cams"]] == [cam.pk]
    assert [mask["layer"] for mask in data["masks"]] == ["mitochondria"]


def test_the_next_slice_stays_in_the_stack(seen_by: Seen, dataset: Dataset, alice: User) -> None:
    fill(dataset, 6, group="stack A")
    for n, item in enumerate(dataset.all_items.all()):
        Item.objects.filter(pk=item.pk).update(index=n % 3, group=f"stack {'AB'[n // 3]}")
    items = list(dataset.all_items.all())
    page = seen_by(alice).get(f"/items/{items[2].pk}/").content.decode()
    assert re.search(rf'data-slice="before"[^>]*href="/items/{items[1].pk}/"', page)
    assert 'data-slice="after"' not in page
    assert re.search(rf'rel="next"[^>]*href="/items/{items[3].pk}/"', page)


def test_the_items_around_one_are_told_in_the_order_of_the_grid_and_its_stack_in_that_of_its_slices(
    seen_by: Seen, dataset: Dataset, alice: User, charlie: User
) -> None:
    fill(dataset, 260, group="stack A")
    items = list(dataset.all_items.all())
    for n, item in enumerate(items[:30]):
        Item.objects.filter(pk=item.pk).update(group="stack B", index=30 - n)
    client = seen_by(alice)
    answer = client.get(f"/items/{items[10].pk}/around.json")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    told = answer.json()
    assert told["run"] == [item.pk for item in items[:211]]
    assert (told["first"], told["last"]) == (True, False)
    assert told["stack"] == [item.pk for item in items[:30]][::-1]
    tests = client.get(f"/items/{items[60].pk}/around.json?split=test").json()
    assert tests["run"] == [item.pk for item in items if item.split == "test"]
    assert (tests["first"], tests["last"]) == (True, True)
    assert seen_by(charlie).get(f"/items/{items[10].pk}/around.json").status_code == 404


def test_an_item_that_a_later_revision_replaced_points_to_its_successor(
    seen_by: Seen, dataset: Dataset, alice: User
) -> None:
    fill(dataset, 1)
    item = dataset.all_items.get()
    Item.objects.filter(pk=item.pk).update(removed_in=2)
    successor = Item.objects.get(pk=item.pk)
    successor.pk, successor.added_in, successor.removed_in = None, 2, None
    successor.save()
    page = seen_by(alice).get(f"/items/{item.pk}/").content.decode()
    assert f'<a href="/items/{successor.pk}/">Show it as it is now</a>' in page
    assert "3f9c" in page
