"""What can be laid over an item in the viewer: its masks, and what jobs of the project made of its very pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.urls import reverse

from ml_core.specs import fields_of
from ml_core.specs.cam import with_limit
from webapp.datasets.models import Item
from webapp.datasets.pictures.colorized import colours_of, places_in
from webapp.datasets.pictures.pyramids import in_colour
from webapp.jobs.models import Artifact
from webapp.projects.access import visible
from webapp.projects.models import User

RUNS = 50
"""So many runs of each kind are offered, the newest first."""


def masks_of(item: Item) -> list[dict[str, Any]]:
    """The mask layers of `item` as the viewer takes them."""
    return [
        {
            "layer": layer,
            "url": reverse("item-mask", args=[item.pk, layer]),
            "classes": item.dataset.classes.get(layer, {}),
        }
        for layer in item.masks
    ]


def runs_on(item: Item, *, user: User) -> dict[str, list[dict[str, Any]]]:
    """Predictions, activation maps and colours of `item`: one per job and, of maps, per method, layer and target."""
    found = (
        visible(Artifact.objects.select_related("job"), user, project="job__project")
        .filter(
            job__project=item.dataset.project_id,
            kind__in=("prediction", "cam", "cam_sheet"),
            facts__image=item.image,
            facts__page=item.page,
        )
        .order_by("-id")
    )
    newest: dict[tuple[object, ...], Artifact] = {}
    for artifact in found:
        newest.setdefault((artifact.kind, artifact.job_id, *_identity(artifact.facts)), artifact)
    runs: dict[str, list[dict[str, Any]]] = {"prediction": [], "cam": [], "colour": _colours(item, user=user)}
    for (kind, job, *look), artifact in newest.items():
        if kind == "cam_sheet" or len(runs[str(kind)]) == RUNS:
            continue
        run = {"id": artifact.pk, "job": artifact.job_id, "name": artifact.job.name, "url": _url(artifact)}
        sheet = newest.get(("cam_sheet", job, *look))
        facts = _as_sentence(artifact.facts) if kind == "cam" else artifact.facts
        runs[str(kind)].append({**run, "facts": facts, "sheet": _url(sheet) if sheet else ""})
    return runs


def _colours(item: Item, *, user: User) -> list[dict[str, Any]]:
    """Colorize jobs that saw this very image; none of a photograph, which has colours of its own."""
    if in_colour(item):
        return []
    return [
        {
            "id": artifact.pk,
            "job": artifact.job_id,
            "name": artifact.job.name,
            "url": reverse("item-colour", args=[item.pk, artifact.pk]),
            "facts": {"origin": artifact.facts.get("origin", "")},
            "sheet": "",
        }
        for artifact in colours_of(item.dataset, user=user)
        if _has_seen(artifact, item)
    ]


def _has_seen(artifact: Artifact, item: Item) -> bool:
    try:
        return places_in(artifact, [item]) != [None]
    except FileNotFoundError:
        return False


def _identity(facts: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(str(facts.get(name, "")) for name in ("method", "layer", "target"))


def _as_sentence(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of an activation map, its method and layer as the form of a CAM calls them."""
    labels = {field.name: dict(field.choices) for field in fields_of("cam")}
    said = {name: labels[name].get(facts[name], facts[name]) for name in ("method", "layer") if name in facts}
    return {**with_limit(facts), **said}


def _url(artifact: Artifact) -> str:
    return reverse("artifact", args=[artifact.pk, artifact.name])
