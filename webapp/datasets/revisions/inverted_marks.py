"""Which images look inverted beside the others of their dataset; recomputed after each change that affects it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import BooleanField, ExpressionWrapper, F, Q

from ml_core.imaging.inverted_contrast import Inverted, inverted_among
from webapp.datasets.models import Dataset
from webapp.datasets.revisions.problems import problem

if TYPE_CHECKING:
    from webapp.datasets.revisions.draft import RevisionDraft

KIND = "inverted"
Key = TypeVar("Key", bound=Hashable)


def inverted_of(images: Iterable[tuple[Key, str, bool, Mapping[str, Any]]]) -> dict[Key, str]:
    """Key -> the evidence, of those that look inverted. An image is (key, group, whether it is turned, facts)."""
    keys: list[Key] = []
    tones: list[list[float]] = []
    groups: list[str] = []
    for key, group, turned, facts in images:
        if (tone := facts.get("tone")) and not facts.get("constant"):
            keys.append(key)
            groups.append(group)
            tones.append([-figure for figure in tone] if turned else tone)
    if not tones:
        return {}
    return {keys[n]: _evidence(found) for n, found in inverted_among(np.asarray(tones, np.float64), groups).items()}


def inverted_update(revising: RevisionDraft) -> None:
    """Calls inverted what looks so among the dataset's images as they are now, and nothing else."""
    flags = {
        "turned": ExpressionWrapper(Q(low__gt=F("high")), output_field=BooleanField()),
        "called": ExpressionWrapper(Q(problems__contains=[{"kind": KIND}]), output_field=BooleanField()),
    }
    columns = ("pk", "group", "turned", "facts", "called")
    rows = list(revising.items.annotate(**flags).values_list(*columns))
    photographs = revising.dataset.kind == Dataset.Kind.PHOTOGRAPHS
    found = {} if photographs else inverted_of((pk, group, turned, facts) for pk, group, turned, facts, _ in rows)
    changed = [pk for pk, _, _, _, called in rows if called != (pk in found)]
    # Most have the same few problems: one copy by the database for each list of them, and not one per image.
    wanted: dict[str, list[int]] = defaultdict(list)
    for pk, known in revising.items.filter(pk__in=changed).values_list("pk", "problems"):
        rest = [each for each in known if each["kind"] != KIND]
        wanted[json.dumps(rest + ([problem(KIND, found[pk])] if pk in found else []))].append(pk)
    for problems, ids in wanted.items():
        revising.update_again(ids, problems=json.loads(problems))


def inverted_recompute(revising: RevisionDraft) -> None:
    """The same where some image is called inverted; what makes none look so needs no look at all of them."""
    if revising.items.exclude(problems=[]).filter(problems__contains=[{"kind": KIND}]).exists():
        inverted_update(revising)


def _evidence(found: Inverted) -> str:
    where = f"of the stack {found.group}" if found.group else "of the dataset"
    here, usual = (f"{figure:+.2f}".replace("-", "\N{MINUS SIGN}") for figure in (found.here, found.usual))
    return (
        f"Bright and darkseem swapped: the {found.figure} is {here}, where {usual} is usual "
        f"among the {intcomma(found.others)} other images {where}."
    )
