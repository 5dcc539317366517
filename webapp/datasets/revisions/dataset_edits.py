"""Changes of a dataset as a whole: its split, its classes, what it holds, an earlier revision brought back."""

from __future__ import annotations

import json
from collections import defaultdict

from django.db import transaction

from webapp.datasets.models import Dataset, Revision
from webapp.datasets.revisions.inverted_marks import tones_tell
from webapp.datasets.revisions.item_edits import EditRefused, _Revising
from webapp.datasets.revisions.problems import image_problems
from webapp.projects.models import User


@transaction.atomic
def dataset_turn(dataset: Dataset, *, kind: str, base: int, user: User) -> Revision:
    """Turns a dataset of micrographs into one of photographs, or back."""
    if kind not in Dataset.Kind.values:
        raise EditRefused("Choose micrographs or colour photographs.")
    revising = _Revising(dataset.pk, base=base)
    if revising.dataset.kind == kind:
        raise EditRefused(f"The dataset holds {Dataset.Kind(kind).label} already, so nothing was changed.")
    revising.dataset.kind = kind
    revising.dataset.save(update_fields=["kind"])
    # Most images have the same few problems: one copy by the database for each list of them, and not one per image.
    wanted: dict[str, list[int]] = defaultdict(list)
    for pk, known, facts in revising.items.filter(facts__colour=True).values_list("pk", "problems", "facts"):
        rest = [each for each in known if each["kind"] != "colour"]
        if kind == Dataset.Kind.MICROGRAPHS:
            rest += [each for each in image_problems(facts) if each["kind"] == "colour"]
        wanted[json.dumps(rest)].append(pk)
    for problems, ids in wanted.items():
        revising.replace(ids, problems=json.loads(problems))
    tones_tell(revising)
    return revising.finish(f"The dataset holds {Dataset.Kind(kind).label}.", user=user)
