"""Changes of a dataset as a whole: its split, its classes, what it holds, an earlier revision brought back."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from django.core.files.storage import default_storage
from django.db import transaction

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Revision
from webapp.datasets.revisions.draft import LABEL, RevisionDraft
from webapp.datasets.revisions.inverted_marks import inverted_update
from webapp.datasets.revisions.problems import image_problems
from webapp.datasets.revisions.split_plan import SHARES, SplitRequest, split_plan
from webapp.projects.models import User


@transaction.atomic
def dataset_set_content(dataset: Dataset, *, kind: str, base: int, user: User) -> Revision:
    """Turns a dataset of micrographs into one of photographs, or back."""
    if kind not in Dataset.Kind.values:
        raise EditRefused("Choose micrographs or colour photographs.")
    revising = RevisionDraft(dataset.pk, base=base)
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
    inverted_update(revising)
    return revising.save(f"The dataset holds {Dataset.Kind(kind).label}.", user=user)


_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\Z")


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
    revising = RevisionDraft(dataset.pk, base=base)
    plan = split_plan(revising.items, SplitRequest(rule=rule, validation=validation, test=test, seed=seed))
    if not plan.moved:
        again = " Another seed gives another split." if rule == SHARES else ""
        raise EditRefused(f"The dataset is split like this already.{again}")
    for side, ids in plan.wanted.items():
        revising.replace(ids, split=side)
    return revising.save(f"Split again: {plan.counts}. {plan.sentence}", user=user), plan.sentence


@transaction.atomic
def classes_name(
    dataset: Dataset, *, layer: str, classes: Mapping[str, Mapping[str, str]], base: int, user: User
) -> Revision:
    """Names and colours the classes of a mask layer: value -> {"name", "colour"}. Values that are not named stay."""
    revising = RevisionDraft(dataset.pk, base=base)
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
    return revising.save(f"Classes of {layer}: {names}.", user=user)


@transaction.atomic
def revision_restore(revision: Revision, *, base: int, user: User) -> Revision:
    """Makes a new revision that holds what an earlier one held."""
    revising = RevisionDraft(revision.dataset_id, base=base)
    now = set(revising.items.values_list("pk", flat=True))
    then = set(revision.items.values_list("pk", flat=True))
    dataset, header = revising.dataset, _header_of(revision)
    classes, kind = header.get("classes") or {}, header.get("kind", Dataset.Kind.MICROGRAPHS)
    if now == then and (classes, kind) == (dataset.classes, dataset.kind):
        raise EditRefused(f"Revision {revision.number} holds what the dataset holds now.")
    if (classes, kind) != (dataset.classes, dataset.kind):
        dataset.classes, dataset.kind = classes, kind
        dataset.save(update_fields=["classes", "kind"])
    revising.end_rows([*(now - then)])
    revising.copy([*(then - now)])
    return revising.save(f"As revision {revision.number} was.", user=user)


def _header_of(revision: Revision) -> dict[str, Any]:
    """How classes were named and what the dataset held: the manifest's first line. As now, where that is missing."""
    try:
        with default_storage.open(revision.manifest) as manifest:
            return dict(json.loads(manifest.readline()))
    except FileNotFoundError:
        now = Dataset.objects.get(pk=revision.dataset_id)
        return {"classes": now.classes, "kind": now.kind}
