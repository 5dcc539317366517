"""Changes to masks: taken off, called right, their values merged or named, a layer renamed, one given to an image.

Like those of `edits.py`, each makes one new revision and leaves the earlier ones as they are.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import JSONField, QuerySet
from django.db.models.expressions import RawSQL
from PIL import Image

from ml_core.data.formats import readers
from ml_core.imaging.mask_values import only_value
from webapp.datasets.classes import CLASS_COLOURS, classes_of
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Blob, Dataset, Item, Revision
from webapp.datasets.queries.filters import with_problem
from webapp.datasets.queries.unpaired_masks import HAND
from webapp.datasets.revisions.draft import LABEL, RevisionDraft, Selection
from webapp.datasets.revisions.problems import mask_problems, problem
from webapp.projects.models import User

CHUNK = 2000


MOST_REWRITTEN = 500
"""Masks that one click writes anew: seconds, not minutes. The next click does the next ones."""


MOST_PIXELS = 400_000_000


ABOUT_MASKS = ("empty_mask", "unknown_values", "unpaired")
"""Problems that a change of an item's masks decides anew."""


_LAYER = re.compile(r"[^/\\\x00-\x1f\x7f]{1,100}\Z")


Masks = dict[str, dict[str, Any]]


@transaction.atomic
def masks_detach(dataset: Dataset, *, layer: str, selection: Selection, base: int, user: User) -> Revision:
    """Takes the masks of a layer off the chosen images. They wait on the page of masks for another image."""
    revising = RevisionDraft(dataset.pk, base=base)
    items = _with_layer(revising, layer).filter(pk__in=revising.selected_ids(selection))

    def change(item: Item) -> None:
        taken = item.masks[layer]
        item.masks = {name: mask for name, mask in item.masks.items() if name != layer}
        item.facts = {**item.facts, "detached": {**item.facts.get("detached", {}), layer: taken}}

    count = _rework(revising, items, change)
    if not count:
        raise EditRefused(f"None of the chosen images has a mask in the layer {layer}, so nothing was changed.")
    whose = "its image" if count == 1 else "their images"
    return revising.save(f"{_masks(count)} of {layer} unpaired from {whose}.", user=user)


@transaction.atomic
def mask_attach(
    dataset: Dataset, *, layer: str, item_id: int, mask: Mapping[str, Any], size: tuple[int, int], base: int, user: User
) -> Revision:
    """Pairs an unpaired mask with an image. `mask` and its `size` are as in the list of unpaired masks."""
    revising = RevisionDraft(dataset.pk, base=base)
    layer = " ".join(layer.split())
    if not _LAYER.match(layer):
        raise EditRefused("A layer needs a name of 1 to 100 characters without slashes.")
    item = revising.items.filter(pk=item_id).first()
    if item is None:
        raise EditRefused("This image is no longer in the dataset. Reload the page and choose another.")
    if (item.width, item.height) != size:
        raise EditRefused(
            f"The mask is {size[0]:,} x {size[1]:,} px and {item.name} {item.width:,} x {item.height:,}. "
            "Choose an image of its size."
        )
    if layer in item.masks:
        raise EditRefused(f"{item.name} has a mask in {layer} already. Unpair that one first.")
    off = revising.items.filter(facts__has_key="detached")
    sources = [each.pk for each in off if any(_same(mask, held) for held in each.facts["detached"].values())]
    if layer not in revising.dataset.classes and (found := classes_of([mask], name=layer)):
        revising.dataset.classes = {**revising.dataset.classes, layer: found}
        revising.dataset.save(update_fields=["classes"])

    def change(each: Item) -> None:
        left = {name: held for name, held in each.facts.get("detached", {}).items() if not _same(mask, held)}
        each.facts = {key: value for key, value in each.facts.items() if key != "detached"}
        if left:
            each.facts["detached"] = left
        if each.pk == item_id:
            each.masks = {**each.masks, layer: {**mask, "rule": HAND}}

    _rework(revising, revising.items.filter(pk__in=[item_id, *sources]), change)
    return revising.save(f"The mask {mask['name']} paired with {item.name}, by hand.", user=user)


@transaction.atomic
def masks_drop_empty(dataset: Dataset, *, layer: str, base: int, user: User) -> Revision:
    """Takes masks that mark nothing off their images: those are without a mask from here on, not empty."""
    revising = RevisionDraft(dataset.pk, base=base)

    def change(item: Item) -> None:
        if _has_no_mask(item.masks[layer]):
            item.masks = {name: mask for name, mask in item.masks.items() if name != layer}

    count = _rework(revising, with_problem(_with_layer(revising, layer), "empty_mask"), change)
    if not count:
        raise EditRefused(f"No mask of {layer} is empty any more, so nothing was changed.")
    return revising.save(f"{_masks(count)} of {layer} with nothing in {_them(count)} unpaired.", user=user)


@transaction.atomic
def masks_accept_empty(dataset: Dataset, *, layer: str, base: int, user: User) -> Revision:
    """Says that in the images whose masks mark nothing there is nothing to mark: they are a problem no more."""
    revising = RevisionDraft(dataset.pk, base=base)

    def change(item: Item) -> None:
        if _has_no_mask(mask := item.masks[layer]):
            item.masks = {**item.masks, layer: {**mask, "nothing": True}}

    count = _rework(revising, with_problem(_with_layer(revising, layer), "empty_mask"), change)
    if not count:
        raise EditRefused(f"No mask of {layer} is empty any more, so nothing was changed.")
    return revising.save(f"{_masks(count)} of {layer} kept as “nothing here”.", user=user)


@transaction.atomic
def value_name(dataset: Dataset, *, layer: str, value: int, name: str, base: int, user: User) -> Revision:
    """Makes a value of a layer's masks a class of this name."""
    revising = RevisionDraft(dataset.pk, base=base)
    name, known = " ".join(name.split()), revising.dataset.classes.get(layer, {})
    if not 0 < len(name) <= LABEL:
        raise EditRefused(f"Value {value} of {layer} needs a name of 1 to {LABEL} characters to be a class.")
    if not 0 < value < 256 or str(value) in known:
        raise EditRefused(f"Value {value} of {layer} is a class, or the background, already.")
    given = {"name": name, "colour": CLASS_COLOURS[len(known) % len(CLASS_COLOURS)]}
    named = dict(sorted({**known, str(value): given}.items(), key=lambda pair: int(pair[0])))
    items = _holding(revising, layer, value)
    if not items.exists():
        raise EditRefused(f"No mask of {layer} holds the value {value}, so nothing was changed.")
    revising.dataset.classes = {**revising.dataset.classes, layer: named}
    revising.dataset.save(update_fields=["classes"])
    _rework(revising, with_problem(items, "unknown_values"), lambda item: None)
    return revising.save(f"Value {value} of {layer} is the class {name} now.", user=user)


@transaction.atomic
def value_merge(dataset: Dataset, *, layer: str, value: int, into: int, base: int, user: User) -> Revision:
    """Counts a value of a layer's masks as the background (0) or as a class: these masks are written anew.

    At most MOST_REWRITTEN masks, or MOST_PIXELS, at a time; the revision records how many are left.
    """
    revising = RevisionDraft(dataset.pk, base=base)
    known = revising.dataset.classes.get(layer, {})
    if value == into or (into and str(into) not in known) or str(value) in known:
        raise EditRefused(f"Value {value} of {layer} can count as the background or as one of its classes.")
    holding = _holding(revising, layer, value)
    total = holding.count()
    if not total:
        raise EditRefused(f"No mask of {layer} holds the value {value}, so nothing was changed.")
    ids: list[int] = []
    pixels = 0
    sizes = holding.order_by("position", "id").values_list("pk", "width", "height")[:MOST_REWRITTEN]
    for pk, width, height in sizes:
        pixels += width * height
        if ids and pixels > MOST_PIXELS:
            break
        ids.append(pk)

    def change(item: Item) -> None:
        item.masks = {**item.masks, layer: _rewritten(item.masks[layer], value=value, into=into, name=item.name)}

    count = _rework(revising, holding.filter(pk__in=ids), change)
    default_storage.sync()  # type: ignore[attr-defined]  # before the rows that refer to the files
    words = f"{known[str(into)]['name']} in" if into else "background in"
    sentence = f"Value {value} of {layer} counts as {words} {_masks(count)}."
    if total > count:
        sentence += (
            f" {_masks(total - count)} still hold{'s' if total - count == 1 else ''} it: press again for the next ones."
        )
    return revising.save(sentence, user=user)


@transaction.atomic
def layer_rename(dataset: Dataset, *, layer: str, to: str, base: int, user: User) -> Revision:
    """Gives a mask layer another name; its classes go with it."""
    revising = RevisionDraft(dataset.pk, base=base)
    to = " ".join(to.split())
    if not _LAYER.match(to):
        raise EditRefused("A layer needs a name of 1 to 100 characters without slashes.")
    items = _with_layer(revising, layer)
    if to == layer or not items.exists():
        raise EditRefused("The layer already has this name." if to == layer else f"There is no mask layer {layer}.")
    if _with_layer(revising, to).exists():
        raise EditRefused(f"There is a mask layer {to} already. Choose another name.")

    classes = dict(revising.dataset.classes)
    if layer in classes:
        classes[to] = classes.pop(layer)
        revising.dataset.classes = classes
        revising.dataset.save(update_fields=["classes"])
    # Problems of an item name the layer, so they are rewritten; the database renames the rest.
    plain = list(items.filter(problems=[]).values_list("pk", flat=True))

    def change(item: Item) -> None:
        item.masks = {to if name == layer else name: mask for name, mask in item.masks.items()}

    count = _rework(revising, items.exclude(problems=[]), change)
    moved = RawSQL(  # the names travel as parameters
        "(masks - %s::text) || jsonb_build_object(%s::text, masks -> %s::text)",
        [layer, to, layer],
        output_field=JSONField(),
    )
    count += revising.replace(plain, masks=moved) if plain else 0
    return revising.save(f"The mask layer {layer} of {intcomma(count)} images is now named {to}.", user=user)


def _with_layer(revising: RevisionDraft, layer: str) -> QuerySet[Item]:
    return revising.items.exclude(masks={}).filter(masks__has_key=layer)


def _holding(revising: RevisionDraft, layer: str, value: int) -> QuerySet[Item]:
    held = RawSQL("jsonb_exists(masks -> %s::text -> 'values', %s::text)", [layer, str(value)])  # parameters
    return _with_layer(revising, layer).annotate(held=held).filter(held=True)


def _rework(revising: RevisionDraft, items: QuerySet[Item], change: Callable[[Item], None]) -> int:
    """Changes items one by one in new rows and recomputes their mask problems; returns how many it changed."""
    ids = list(items.order_by("position", "id").values_list("pk", flat=True))
    classes = revising.dataset.classes
    count = 0
    for start in range(0, len(ids), CHUNK):
        made = []
        for item in Item.objects.filter(pk__in=ids[start : start + CHUNK]).order_by("position", "id"):
            before = (item.masks, item.facts, item.problems)
            change(item)
            item.problems = _problems(item, classes=classes)
            if (item.masks, item.facts, item.problems) != before:
                made.append(item)
        revising.end_rows([item.pk for item in made])
        for item in made:
            item.pk, item.added_in = None, revising.number
            item._state.adding = True
        Item.objects.bulk_create(made)
        count += len(made)
    return count


def _problems(item: Item, *, classes: Mapping[str, Any]) -> list[dict[str, str]]:
    kept = [each for each in item.problems if each["kind"] not in ABOUT_MASKS]
    kept += mask_problems(item.masks, classes=classes)
    if item.facts.get("detached") and not item.masks:
        kept.append(problem("unpaired", "Its mask was unpaired."))
    elif not item.masks:
        kept += [each for each in item.problems if each["kind"] == "unpaired"]
    return kept


def _rewritten(mask: Mapping[str, Any], *, value: int, into: int, name: str) -> dict[str, Any]:
    """The mask with one value become another, kept as an 8-bit PNG of its own."""
    try:
        pixels = readers.read_mask(Path(default_storage.path(mask["sha256"])), page=mask["page"])
        if (only := mask.get("only")) is not None:
            pixels = only_value(pixels, only)
    except FileNotFoundError:
        raise EditRefused(
            f"The mask file of {name} is missing from the storage. Restore it from a backup, or unpair this mask."
        ) from None
    buffer = io.BytesIO()
    Image.fromarray(np.where(pixels == value, np.uint8(into), pixels)).save(buffer, "PNG")
    sha256 = default_storage.put_bytes(buffer.getvalue())  # type: ignore[attr-defined]
    Blob.objects.bulk_create([Blob(sha256=sha256, size=len(buffer.getvalue()))], ignore_conflicts=True)
    values = dict(mask["values"])
    values[str(into)] = values.get(str(into), 0) + values.pop(str(value))
    kept = {key: known for key, known in mask.items() if key != "only"}  # the new file holds nothing else
    return {**kept, "sha256": sha256, "page": 0, "values": values}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("name", "page", "sha256"))


def _has_no_mask(mask: Mapping[str, Any]) -> bool:
    """Whether a mask is empty and has not been accepted as such."""
    return not mask.get("nothing") and not any(value != "0" for value in mask["values"])


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def _masks(count: int) -> str:
    return f"{intcomma(count)} mask{'' if count == 1 else 's'}"
