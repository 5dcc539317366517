"""Filters, several at once, and what they cost: which items match, and that the summary's numbers are the rows'."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from webapp.datasets.models import Dataset, Item, Revision
from webapp.datasets.queries import counts, item_pages
from webapp.datasets.queries.filters import NO_LABEL, Filters
from webapp.datasets.revisions.manifests import revision_create
from webapp.projects.models import Project, User

pytestmark = pytest.mark.django_db

COUNT = 210


@pytest.fixture
def revision(project: Project, alice: User) -> Revision:
    """Labels stand together and splits are scattered; a row that an earlier revision held stands among them."""
    dataset = Dataset.objects.create(project=project, name="Corpus", created_by=alice)
    Item.objects.bulk_create([item(dataset, n) for n in range(COUNT)])
    Item.objects.bulk_create([item(dataset, 5, added_in=1, removed_in=2, label="gone")])
    return revision_create(dataset, number=2, change="All added.", user=alice)


def item(dataset: Dataset, n: int, **fields: Any) -> Item:
    known = {
        "added_in": 2,
        "label": ("", "liver", "worm")[n // 70],
        "split": ("train", "test", "")[n % 3],
        "masks": {"mito": {"sha256": "a", "page": 0, "values": {}}} if n % 10 == 0 else {},
        "problems": [{"kind": "constant", "text": "One grey value."}] if n % 50 == 49 else [],
        "pixel_size_nm": 8.0 if n % 2 else None,
        "group": f"stack-{n // 30}",
    }
    return Item(
        dataset=dataset,
        position=n // 2 * 100,  # two share each place
        name=f"stack-{n // 30}/Slice{n:04d}.tif",
        image=f"{n:064x}",
        width=8,
        height=8,
        dtype="uint8",
        low=0,
        high=255,
        thumbnail="",
        **known | fields,
    )


def numbers(items: list[Item]) -> list[int]:
    return [int(found.image, 16) for found in items]


def paged(revision: Revision, filters: Filters, *, back: bool = False) -> list[int]:
    """Every match, page by page."""
    found: list[Item] = []
    key = None if not back else (10**9, 10**9)
    while page := item_pages.next_items(revision, filters, key, number=11, back=back):
        found += page
        key = (page[-1].position, page[-1].pk)
    return numbers(found)


def matches(filters: Filters) -> list[int]:
    """The same, said without a database."""
    wanted = []
    for n in range(COUNT):
        there = item(Dataset(), n)
        wanted.append(
            (not filters.split or there.split == filters.splits[0])
            and (not filters.label or there.label in filters.labels)
            and (not filters.mask or bool(there.masks) == (filters.mask != "unpaired"))
            and (not filters.group or there.group == filters.group)
            and (not filters.problem or bool(there.problems))
            and (not filters.size or (there.pixel_size_nm is None) == (filters.size == "unknown"))
        )
    return [n for n in range(COUNT) if wanted[n]]


@pytest.mark.parametrize(
    ("label", "split", "rest"),
    [
        *product(
            [(), ("worm",), (NO_LABEL, "worm"), ("liver", "nothing")],
            ["", "test", "none"],
            [
                {},
                {"mask": "mito"},
                {"mask": "unpaired"},
                {"problem": "constant"},
                {"size": "unknown"},
                {"group": "stack-4"},
            ],
        )
    ],
)
def test_any_filters_together_page_through_the_items_that_match_and_the_count_is_theirs(
    revision: Revision, label: tuple[str, ...], split: str, rest: dict[str, str]
) -> None:
    filters = Filters(label=label, split=split, **rest)
    wanted = matches(filters)
    assert paged(revision, filters) == wanted
    assert paged(revision, filters, back=True) == wanted[::-1]
    assert counts.count(revision, filters) == (len(wanted), False)
    assert sorted(numbers([*filters.apply(revision.items)])) == wanted


def test_labels_with_a_side_are_counted_without_the_items(revision: Revision, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert counts.count(revision, Filters(label=("liver", NO_LABEL), split="test")) == (47, False)
        assert counts.count(revision, Filters(label=("liver", NO_LABEL), mask="mito")) == (14, False)
        assert counts.count(revision, Filters(label=("worm",), mask="unpaired")) == (63, False)
        assert counts.count(revision, Filters(label=("worm", "nothing"), mask="paired")) == (7, False)
        assert counts.count(revision, Filters(label=("nothing",), mask="mito")) == (0, False)
        assert item_pages.next_items(revision, Filters(label=("nothing",)), None, number=9) == []


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("slice 012", [12, *range(120, 130)]),
        ("slice 12", [12]),
        ("slice-0012.TIF", [12]),
        ("12 slice", []),
        ("stack 3 slice 9", []),
        ("stack 3 slice 99", [99]),
        ("slice 00099", [99]),
        ("slice 0", [*range(COUNT)]),
        ("Stack-6 slice0185", [185]),
        ("SLI 0012 tif", [12]),
        ("lice", []),
        ("' | ! & :* (", [*range(COUNT)]),
    ],
)
def test_words_of_a_search_begin_parts_of_the_name_in_order_and_numbers_count(
    revision: Revision, words: str, wanted: list[int]
) -> None:
    filters = Filters(name=words)
    assert paged(revision, filters) == wanted


def test_a_search_by_name_can_use_its_index(revision: Revision) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = Filters(name="slice 0012").apply(Item.objects.order_by()).explain()
    assert "item_name_words" in plan


def test_an_address_says_several_labels_and_of_the_rest_the_last_one_counts() -> None:
    filters = Filters.of({"label": ["worm", "liver", "worm", ""], "split": ["train", "test"], "other": ["x"]})
    assert filters == Filters(label=("liver", "worm"), split="test")
    assert filters.pairs == [("split", "test"), ("label", "liver"), ("label", "worm")]
