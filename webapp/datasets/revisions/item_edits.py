"""Changes that people make to a dataset. Each makes one new revision and describes it in a sentence.

A revision never changes, so neither does a row that one of them holds: a changed item is a new row, and the old one
ends with the revision before. The copying is done by the database, so half a million items take seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models.expressions import F

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Revision, Split
from webapp.datasets.revisions.draft import LABEL, RevisionDraft, Selection, images_text
from webapp.datasets.revisions.inverted_marks import inverted_recompute, inverted_update
from webapp.datasets.revisions.problems import image_problems
from webapp.projects.models import User


@transaction.atomic
def items_remove(dataset: Dataset, *, selection: Selection, base: int, user: User) -> Revision:
    """Leaves items out from the new revision on; earlier revisions, and jobs that ran on them, keep them."""
    revising = RevisionDraft(dataset.pk, base=base)
    ids = revising.selected_ids(selection)
    contents = set(revising.items.filter(pk__in=ids).values_list("image", "page"))
    revising.end_rows(ids)
    _release_near_duplicates(revising, contents)
    inverted_recompute(revising)
    return revising.save(f"{images_text(len(ids))} left out.", user=user)


@transaction.atomic
def items_label(dataset: Dataset, *, selection: Selection, label: str, base: int, user: User) -> Revision:
    """Gives items a label; an empty one takes theirs away."""
    label = " ".join(label.split())
    if len(label) > LABEL:
        raise EditRefused(f"A label has at most {LABEL} characters. Shorten it and try again.")
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
    revising = RevisionDraft(dataset.pk, base=base)
    ids = revising.selected_ids(selection)
    revising.replace(ids, low=F("high"), high=F("low"))
    inverted_update(revising)
    return revising.save(f"{images_text(len(ids))} inverted.", user=user)


def _set(dataset: Dataset, selection: Selection, *, base: int, user: User, words: str, **changes: Any) -> Revision:
    """Changes columns of the chosen items."""
    revising = RevisionDraft(dataset.pk, base=base)
    ids = revising.selected_ids(selection)
    same = set(revising.items.filter(pk__in=ids, **changes).values_list("pk", flat=True))
    ids = [pk for pk in ids if pk not in same]
    if not ids:
        raise EditRefused("The chosen items are like this already, so nothing was changed.")
    revising.replace(ids, **changes)
    return revising.save(f"{images_text(len(ids))} {words}.", user=user)


def _release_near_duplicates(revising: RevisionDraft, contents: Iterable[tuple[str, int]]) -> None:
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
