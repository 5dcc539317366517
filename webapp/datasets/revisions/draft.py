"""One new revision in the making: which items it changes, and how it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db import connection
from django.db.models import QuerySet

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Item, Revision
from webapp.datasets.queries.filters import Filters
from webapp.datasets.revisions.manifests import revision_create
from webapp.projects.models import User

MOST_CHOSEN = 10_000
"""Items that can be named one by one; more are chosen by a filter."""


LABEL = 200


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Items of a dataset's newest revision: those with these ids, or all that match the filters."""

    ids: Sequence[int] = ()
    filters: Filters | None = None

    def of(self, items: QuerySet[Item]) -> QuerySet[Item]:
        return self.filters.apply(items) if self.filters is not None else items.filter(pk__in=self.ids)


class RevisionDraft:
    """One new revision in the making, in the caller's transaction; the dataset's row is locked meanwhile.

    Each item may be changed once. Raises EditRefused where the dataset has moved on since revision `base`, at which the
    person was looking.
    """

    def __init__(self, dataset_id: int, *, base: int) -> None:
        self.dataset = Dataset.objects.select_for_update().get(pk=dataset_id)
        newest = self.dataset.revisions.order_by("-number").values_list("number", flat=True).first() or 0
        if base != newest:
            raise EditRefused(
                f"The dataset has changed since this page was opened: it is at revision {newest} now. Nothing was "
                "changed; reload the page and try again."
            )
        self.number = newest + 1

    @property
    def items(self) -> QuerySet[Item]:
        return Item.objects.filter(dataset=self.dataset, removed_in=None)

    def selected_ids(self, selection: Selection) -> list[int]:
        """Ids, in the dataset's order. Raises EditRefused where there are none, or where some have gone."""
        ids = list(selection.of(self.items).order_by("position", "id").values_list("pk", flat=True))
        if not ids:
            raise EditRefused("No item was chosen, so nothing was changed. Choose some and try again.")
        if selection.filters is None and len(ids) != len(set(selection.ids)):
            raise EditRefused(
                "Some of the chosen items are no longer in the dataset. Reload the page and choose again."
            )
        return ids

    def copy(self, ids: Sequence[int], **changes: Any) -> int:
        """Adds copies of rows, of this dataset or of another, to this revision, with `changes` on top.

        They keep their order: where positions are equal, that of the ids is the manifest's.
        """
        columns = [str(field.column) for field in Item._meta.concrete_fields if not field.primary_key]
        values = {"dataset_id": "%s", "added_in": "%s", "removed_in": "NULL"}
        quoted = ", ".join(f'"{column}"' for column in columns)
        taken = ", ".join(values.get(column, f'"{column}"') for column in columns)
        table = Item._meta.db_table
        # Names of our own columns; what a person wrote travels as a parameter.
        query = (
            f'INSERT INTO "{table}" ({quoted}) SELECT {taken} FROM "{table}" WHERE id = ANY(%s) '  # noqa: S608
            "ORDER BY position, id RETURNING id"
        )
        known = {"dataset_id": self.dataset.pk, "added_in": self.number}
        with connection.cursor() as cursor:
            cursor.execute(query, [*(known[column] for column in columns if column in known), list(ids)])
            made = [row[0] for row in cursor.fetchall()]
        if changes:
            Item.objects.filter(pk__in=made).update(**changes)
        return len(made)

    def end_rows(self, ids: Sequence[int]) -> int:
        """Ends rows with the revision before."""
        return Item.objects.filter(pk__in=list(ids), removed_in=None).update(removed_in=self.number)

    def replace(self, ids: Sequence[int], **changes: Any) -> int:
        self.copy(ids, **changes)
        return self.end_rows(ids)

    def update_again(self, ids: Sequence[int], **changes: Any) -> None:
        """Changes items a second time: rows that this revision made are changed as they are."""
        own = Item.objects.filter(pk__in=list(ids), added_in=self.number)
        mine = set(own.values_list("pk", flat=True))
        own.update(**changes)
        if rest := [pk for pk in ids if pk not in mine]:
            self.replace(rest, **changes)

    def save(self, sentence: str, *, user: User | None) -> Revision:
        return revision_create(self.dataset, number=self.number, change=sentence, user=user)


def images_text(count: int) -> str:
    return f"{intcomma(count)} image{'' if count == 1 else 's'}"
