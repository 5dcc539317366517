"""A new dataset of the items of a revision that match, or of a sample of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from django.db import transaction

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Revision
from webapp.datasets.queries.filters import Filters
from webapp.datasets.revisions.draft import LABEL, RevisionDraft, images_text
from webapp.projects.models import Project, User

LABELS_SAID = 5
"""Labels that the sentence of a subset names."""


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
            raise EditRefused(f"{images_text(len(ids))} match; a sample has 1 to {len(ids):,}.")
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
    revising = RevisionDraft(made.pk, base=0)
    revising.copy(ids)
    revising.save(f"Subset of {revision.dataset.name} rev {revision.short_name}: {words}.", user=user)
    return made


def _words_of(filters: Filters) -> str:
    """ "label liver or worm, split train". A long list of labels ends early: a sentence must fit its column."""
    words = []
    for name, value in filters.chosen.items():
        values = [value] if isinstance(value, str) else [*value]
        rest = f" or {len(values) - LABELS_SAID} more" if len(values) > LABELS_SAID else ""
        words.append(f"{name} {' or '.join(values[:LABELS_SAID])}{rest}")
    return ", ".join(words) or "all items"


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
