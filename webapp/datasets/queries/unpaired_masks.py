"""Unpaired masks: those that came without one, and those that were taken off theirs.

There may be tens of thousands, so the database finds, sorts and counts them, and hands out a page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db import connection

from webapp.datasets.models import Item, Revision, Upload
from webapp.datasets.queries.filters import WORD, in_order

PAGE = 60


@dataclass(frozen=True)
class UnpairedMask:
    """A mask, or a page of one, that no image has. `layer` is the one that it was in, empty where it was in none."""

    name: str
    page: int
    width: int
    height: int
    layer: str
    mask: dict[str, Any]
    off: Item | None
    """The image that it was taken off."""

    @property
    def key(self) -> str:
        return f"{self.page}:{self.name}"


_FOUND = """
WITH came AS (
    SELECT DISTINCT ON (file.name, page)
        file.name, (pages.facts ->> 'page')::int AS page, pages.facts, NULL::bigint AS item, '' AS layer
    FROM datasets_upload AS upload, jsonb_each(upload.report -> 'waiting_masks') AS file (name, pages),
        jsonb_array_elements(file.pages) AS pages (facts)
    WHERE upload.dataset_id = %s AND upload.state = %s
    ORDER BY file.name, page, upload.created_at DESC
),
given AS (
    SELECT each.mask ->> 'name' AS name, (each.mask ->> 'page')::int AS page
    FROM ({masked}) AS item, jsonb_each(item.masks) AS each (layer, mask) WHERE each.mask ->> 'rule' = %s
),
waiting AS (
    SELECT * FROM came WHERE NOT EXISTS (SELECT FROM given WHERE given.name = came.name AND given.page = came.page)
    UNION ALL
    SELECT each.mask ->> 'name', (each.mask ->> 'page')::int, each.mask, item.id, each.layer
    FROM ({bared}) AS item, jsonb_each(item.facts -> 'detached') AS each (layer, mask)
)
SELECT name, page, facts, item, layer, count(*) OVER () FROM waiting WHERE {where}
ORDER BY {natural} COLLATE "C", name, page LIMIT %s OFFSET %s
"""


_NATURAL = rf"regexp_replace(regexp_replace(lower(name), '(\d+)', '{'0' * 20}\1', 'g'), '\d*(\d{{20}})', '\1', 'g')"
"""Its numbers written with twenty digits, so that `slice_9` comes before `slice_10`."""


def waiting_page(revision: Revision, *, name: str = "", at: int = 0) -> tuple[list[UnpairedMask], int]:
    """A page of masks that wait, by name, from the one at `at` on; and how many there are.

    Each word of `name`, in this order, begins a part of the mask's name, or is its number.
    """
    words = WORD.findall(name.lower())
    rows = _rows(revision, "name ~* %s", [in_order(words)], at=at)
    if not rows and at:  # others were given an image meanwhile
        return waiting_page(revision, name=name)
    return _as_masks(rows), rows[0][-1] if rows else 0


def waiting_one(revision: Revision, key: str) -> UnpairedMask | None:
    """The one with this key, if it still waits."""
    if "\0" in key:  # PostgreSQL takes no such text, and no name has it
        return None
    page, _, name = key.partition(":")
    found = _as_masks(_rows(revision, "name = %s AND page::text = %s", [name, page], at=0))
    return found[0] if found else None


def _rows(revision: Revision, where: str, values: list[str], *, at: int) -> list[tuple[Any, ...]]:
    masked, of_masked = revision.items.exclude(masks={}).order_by().values("masks").query.sql_with_params()
    detached = revision.items.filter(facts__has_key="detached").order_by().values("id", "facts")
    bared, of_bared = detached.query.sql_with_params()
    # The texts are of this module; what a person wrote travels as a parameter.
    query = _FOUND.format(masked=masked, bared=bared, where=where, natural=_NATURAL)
    given = (revision.dataset_id, Upload.State.DONE, *of_masked, HAND, *of_bared, *values, PAGE, at)
    with connection.cursor() as cursor:
        cursor.execute(query, given)
        return cursor.fetchall()


def _as_masks(rows: list[tuple[Any, ...]]) -> list[UnpairedMask]:
    images = Item.objects.in_bulk([item for _, _, _, item, _, _ in rows if item is not None])
    found = []
    for name, page, said, item, layer, _ in rows:
        facts, off = json.loads(said), images.get(item)
        if off:
            waiting = UnpairedMask(name, page, off.width, off.height, layer, mask=facts, off=off)
        else:
            mask = {"sha256": facts["sha256"], "page": page, "values": facts["values"], "name": name, "rule": HAND}
            waiting = UnpairedMask(name, page, facts["width"], facts["height"], layer, mask=mask, off=None)
        found.append(waiting)
    return found


HAND = "hand"
"""The rule of a pair that a person made."""
