"""Changes that people make to a dataset. Each makes one new revision and says in a sentence what it changed.

A revision never changes, so neither does a row that one of them holds: a changed item is a new row, and the old one
ends with the revision before. The copying is done by the database, so half a million items take seconds.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.expressions import F

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Item, Revision, Split
from webapp.datasets.queries.item_pages import Filters
from webapp.datasets.revisions.inverted_marks import tones_tell, tones_tell_again
from webapp.datasets.revisions.manifests import revision_create
from webapp.datasets.revisions.problems import image_problems
from webapp.datasets.revisions.split_plan import SHARES, Asked, split_plan
from webapp.projects.models import Project, User

MOST_CHOSEN = 10_000
"""Items that can be named one by one; more are chosen by a filter."""
LABEL = 200
LABELS_SAID = 5
"""Labels that the sentence of a subset names."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\Z")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Items of a dataset's newest revision: those with these ids, or all that match the filters."""

    ids: Sequence[int] = ()
    filters: Filters | None = None

    def of(self, items: QuerySet[Item]) -> QuerySet[Item]:
        return self.filters.apply(items) if self.filters is not None else items.filter(pk__in=self.ids)


class _Revising:
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
                "changed; look again, then repeat."
            )
        self.number = newest + 1

    @property
    def items(self) -> QuerySet[Item]:
        return Item.objects.filter(dataset=self.dataset, removed_in=None)

    def chosen(self, selection: Selection) -> list[int]:
        """Ids, in the dataset's order. Raises EditRefused where there are none, or where some have gone."""
        ids = list(selection.of(self.items).order_by("position", "id").values_list("pk", flat=True))
        if not ids:
            raise EditRefused("No item was chosen, so nothing was changed. Choose some, then repeat.")
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

    def close(self, ids: Sequence[int]) -> int:
        """Ends rows with the revision before."""
        return Item.objects.filter(pk__in=list(ids), removed_in=None).update(removed_in=self.number)

    def replace(self, ids: Sequence[int], **changes: Any) -> int:
        self.copy(ids, **changes)
        return self.close(ids)

    def amend(self, ids: Sequence[int], **changes: Any) -> None:
        """Changes items a second time: rows that this revision made are changed as they are."""
        own = Item.objects.filter(pk__in=list(ids), added_in=self.number)
        mine = set(own.values_list("pk", flat=True))
        own.update(**changes)
        if rest := [pk for pk in ids if pk not in mine]:
            self.replace(rest, **changes)

    def finish(self, sentence: str, *, user: User | None) -> Revision:
        return revision_create(self.dataset, number=self.number, change=sentence, user=user)


@transaction.atomic
def items_remove(dataset: Dataset, *, selection: Selection, base: int, user: User) -> Revision:
    """Leaves items out from the new revision on; earlier revisions, and jobs that ran on them, keep them."""
    revising = _Revising(dataset.pk, base=base)
    ids = revising.chosen(selection)
    contents = set(revising.items.filter(pk__in=ids).values_list("image", "page"))
    revising.close(ids)
    _free_twins(revising, contents)
    tones_tell_again(revising)
    return revising.finish(f"{_images(len(ids))} left out.", user=user)


@transaction.atomic
def items_label(dataset: Dataset, *, selection: Selection, label: str, base: int, user: User) -> Revision:
    """Gives items a label; an empty one takes theirs away."""
    label = " ".join(label.split())
    if len(label) > LABEL:
        raise EditRefused(f"A label has at most {LABEL} characters. Shorten it, then repeat.")
    words = f"labelled {label}" if label else "without a label from here on"
    return _set(dataset, selection, base=base, user=user, words=words, label=label)


@transaction.atomic
def items_split(dataset: Dataset, *, selection: Selection, split: str, base: int, user: User) -> Revision:
    """Puts items on one side of the split: train, validation, test, or none (an empty string)."""
    if split not in Split.values:
        raise EditRefused("Choose train, validation, test or no split.")
    words = f"put into {split}" if split else "taken out of the split"
    return _set(dataset, selection, base=base, user=user, words=words, split=split)


@transaction.atomic
def items_measure(
    dataset: Dataset, *, selection: Selection, pixel_size_nm: float | None, base: int, user: User
) -> Revision:
    """Says how large the pixels of items are, in nm."""
    if pixel_size_nm is not None and not 0.001 <= pixel_size_nm <= 1_000_000:
        raise EditRefused("A pixel measures 0.001 to 1,000,000 nm. Look at the scale bar or at the microscope's log.")
    words = f"given a pixel size of {pixel_size_nm:g} nm" if pixel_size_nm else "without a pixel size from here on"
    return _set(dataset, selection, base=base, user=user, words=words, pixel_size_nm=pixel_size_nm)


@transaction.atomic
def items_invert(dataset: Dataset, *, selection: Selection, base: int, user: User) -> Revision:
    """Turns dark to bright: the ends of the window change places. The stored pixels stay as they are."""
    revising = _Revising(dataset.pk, base=base)
    ids = revising.chosen(selection)
    revising.replace(ids, low=F("high"), high=F("low"))
    tones_tell(revising)
    return revising.finish(f"{_images(len(ids))} inverted.", user=user)


@transaction.atomic
def dataset_split(
    dataset: Dataset,
    *,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    rule: str = SHARES,
    base: int,
    user: User,
) -> tuple[Revision, str]:
    """Splits all items anew: by stack or in blocks with a gap, or by folder. Returns the revision and the rule in a
    sentence.

    `validation` and `test` are shares of the images. Slices that lie in a gap get no side.
    """
    revising = _Revising(dataset.pk, base=base)
    plan = split_plan(revising.items, Asked(rule=rule, validation=validation, test=test, seed=seed))
    if not plan.moved:
        again = " Another seed gives another split." if rule == SHARES else ""
        raise EditRefused(f"The dataset is split like this already.{again}")
    for side, ids in plan.wanted.items():
        revising.replace(ids, split=side)
    return revising.finish(f"Split anew: {plan.counts}. {plan.sentence}", user=user), plan.sentence


@transaction.atomic
def classes_name(
    dataset: Dataset, *, layer: str, classes: Mapping[str, Mapping[str, str]], base: int, user: User
) -> Revision:
    """Names and colours the classes of a mask layer: value -> {"name", "colour"}. Values that are not named stay."""
    revising = _Revising(dataset.pk, base=base)
    known = revising.dataset.classes.get(layer)
    if known is None:
        raise EditRefused(f"There is no mask layer {layer} in this dataset.")
    changed = dict(known)
    for value, given in classes.items():
        name, colour = " ".join(given.get("name", "").split()), given.get("colour", "")
        if value not in known or not name or len(name) > LABEL or not _COLOUR.match(colour):
            raise EditRefused(f"Class {value} of {layer} needs a name of 1 to {LABEL} characters and a colour.")
        changed[value] = {**known[value], "name": name, "colour": colour.lower()}
    if changed == known:
        raise EditRefused("These are the names and colours that the classes have already.")
    revising.dataset.classes = {**revising.dataset.classes, layer: changed}
    revising.dataset.save(update_fields=["classes"])
    names = ", ".join(str(each["name"]) for each in changed.values())
    return revising.finish(f"Classes of {layer}: {names}.", user=user)


@transaction.atomic
def revision_restore(revision: Revision, *, base: int, user: User) -> Revision:
    """Makes a new revision that holds what an earlier one held."""
    revising = _Revising(revision.dataset_id, base=base)
    now = set(revising.items.values_list("pk", flat=True))
    then = set(revision.items.values_list("pk", flat=True))
    dataset, header = revising.dataset, _header_of(revision)
    classes, kind = header.get("classes") or {}, header.get("kind", Dataset.Kind.MICROGRAPHS)
    if now == then and (classes, kind) == (dataset.classes, dataset.kind):
        raise EditRefused(f"Revision {revision.number} holds what the dataset holds now.")
    if (classes, kind) != (dataset.classes, dataset.kind):
        dataset.classes, dataset.kind = classes, kind
        dataset.save(update_fields=["classes", "kind"])
    revising.close([*(now - then)])
    revising.copy([*(then - now)])
    return revising.finish(f"As revision {revision.number} was.", user=user)


@transaction.atomic
def subset_create(
    revision: Revision,
    *,
    project: Project,
    name: str,
    filters: Filters,
    sample: int | None = None,
    seed: int = 0,
    stratified: bool = False,
    user: User,
) -> Dataset:
    """A new dataset of the revision's items that match, or of a seeded sample of them. It shares their blobs.

    The same revision, filters, number and seed give the same items. `stratified` keeps each label's share of those
    that match, to the item.
    """
    name = " ".join(name.split())
    if not 0 < len(name) <= LABEL:
        raise EditRefused(f"Give the subset a name of 1 to {LABEL} characters.")
    rows = list(filters.apply(revision.items).order_by("position", "id").values_list("pk", "label"))
    ids = [pk for pk, _ in rows]
    if not ids:
        raise EditRefused("No item matches these filters, so there is nothing to make a dataset of.")
    words = _words_of(filters)
    if sample is not None:
        if not 0 < sample <= len(ids):
            raise EditRefused(f"{_images(len(ids))} match; a sample has 1 to {len(ids):,}.")
        strata = [label for _, label in rows] if stratified else [""] * len(rows)
        ids = _sampled(ids, sample, seed=seed, strata=strata)
        words += f", a sample of {sample:,} (seed {seed}{', by label' if stratified else ''})"
    made = Dataset.objects.create(
        project=project,
        name=name,
        created_by=user,
        classes=revision.dataset.classes,
        kind=revision.dataset.kind,
        origin=revision,
    )
    revising = _Revising(made.pk, base=0)
    revising.copy(ids)
    revising.finish(f"Subset of {revision.dataset.name} rev {revision.short_name}: {words}.", user=user)
    return made


def _set(dataset: Dataset, selection: Selection, *, base: int, user: User, words: str, **changes: Any) -> Revision:
    """Changes columns of the chosen items."""
    revising = _Revising(dataset.pk, base=base)
    ids = revising.chosen(selection)
    same = set(revising.items.filter(pk__in=ids, **changes).values_list("pk", flat=True))
    ids = [pk for pk in ids if pk not in same]
    if not ids:
        raise EditRefused("The chosen items are like this already, so nothing was changed.")
    revising.replace(ids, **changes)
    return revising.finish(f"{_images(len(ids))} {words}.", user=user)


def _words_of(filters: Filters) -> str:
    """ "label liver or worm, split train". A long list of labels ends early: a sentence must fit its column."""
    words = []
    for name, value in filters.chosen.items():
        values = [value] if isinstance(value, str) else [*value]
        rest = f" or {len(values) - LABELS_SAID} more" if len(values) > LABELS_SAID else ""
        words.append(f"{name} {' or '.join(values[:LABELS_SAID])}{rest}")
    return ", ".join(words) or "all items"


def _header_of(revision: Revision) -> dict[str, Any]:
    """How classes were named and what the dataset held: the manifest's first line. As now, where that is missing."""
    try:
        with default_storage.open(revision.manifest) as manifest:
            return dict(json.loads(manifest.readline()))
    except FileNotFoundError:
        now = Dataset.objects.get(pk=revision.dataset_id)
        return {"classes": now.classes, "kind": now.kind}


def _sampled(ids: Sequence[int], number: int, *, seed: int, strata: Sequence[str]) -> list[int]:
    """`number` of the ids, drawn from each stratum by its share; what rounding leaves goes to the largest fractions."""
    import numpy as np  # the web starts without it where nobody draws samples

    places = defaultdict(list)
    for place, stratum in enumerate(strata):
        places[stratum].append(place)
    wanted = {stratum: number * len(members) // len(ids) for stratum, members in places.items()}
    fractions = sorted(places, key=lambda stratum: (-(number * len(places[stratum]) % len(ids)), stratum))
    for stratum in fractions[: number - sum(wanted.values())]:
        wanted[stratum] += 1
    generator = np.random.default_rng((seed, 4))
    drawn: list[int] = []
    for stratum in sorted(places):
        members = places[stratum]
        drawn += [members[n] for n in generator.choice(len(members), size=wanted[stratum], replace=False).tolist()]
    return [ids[place] for place in sorted(drawn)]


def _free_twins(revising: _Revising, contents: Iterable[tuple[str, int]]) -> None:
    """Where one of two equal images has gone, the other is no duplicate any more."""
    images = {image for image, _ in contents}
    rows = revising.items.filter(image__in=images).order_by("position", "id")
    first: dict[tuple[str, int], str] = {}
    for item in rows:
        twin = first.setdefault((item.image, item.page), item.name)
        wanted = "" if twin == item.name else twin
        if item.facts.get("duplicate_of", "") == wanted:
            continue
        facts = {key: value for key, value in item.facts.items() if key != "duplicate_of"}
        if wanted:
            facts["duplicate_of"] = wanted
        rest = [each for each in item.problems if each["kind"] != "duplicate"]
        found = [each for each in image_problems(facts) if each["kind"] == "duplicate"]
        revising.replace([item.pk], facts=facts, problems=rest + found)


def _images(count: int) -> str:
    return f"{intcomma(count)} image{'' if count == 1 else 's'}"
