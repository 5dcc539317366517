"""A dataset's items while a commit works on them: those that are there, those that come, those that change.

Rows that are there are held as light tuples, so that half a million fit; a row becomes an Item only when it changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from django.db.models import BooleanField, ExpressionWrapper, F, Q

from ml_core.data.naming.label_tables import Entry as LabelEntry
from ml_core.data.naming.label_tables import LabelLookup
from ml_core.data.naming.pairing import Entry, Pairing
from ml_core.data.naming.stacks import page_name, places
from webapp.datasets import classes
from webapp.datasets.models import Dataset, Item, file_of
from webapp.datasets.revisions import inverted_marks, problems

CHUNK = 2000


LABEL = 200
"""Characters that a label may have."""


Pages = Sequence[Mapping[str, Any]]
"""The pages of one file, as `items.jsonl` has them."""


class Row(NamedTuple):
    """What a commit needs of an existing item."""

    id: int
    name: str
    position: int
    width: int
    height: int
    image: str
    page: int
    group: str
    facts: Mapping[str, Any]
    label: str
    masked: bool
    called_unpaired: bool
    called_inverted: bool
    turned: bool


class StagedItems:
    """`new` are items to come; `touched` copies of items that change, by the id of the row that each replaces."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.new: dict[str, Item] = {}
        self.touched: dict[int, Item] = {}
        current = Item.objects.filter(dataset=dataset, removed_in=None).order_by("position", "id")
        flags = {
            "masked": ExpressionWrapper(~Q(masks={}), output_field=BooleanField()),
            "called_unpaired": ExpressionWrapper(
                Q(problems__contains=[{"kind": "unpaired"}]), output_field=BooleanField()
            ),
            "called_inverted": ExpressionWrapper(
                Q(problems__contains=[{"kind": inverted_marks.KIND}]), output_field=BooleanField()
            ),
            "turned": ExpressionWrapper(Q(low__gt=F("high")), output_field=BooleanField()),
        }
        rows = current.annotate(**flags).values_list(*Row._fields)
        self.rows = {row[1]: Row._make(row) for row in rows}
        self._by_content = {(row.image, row.page): row.name for row in self.rows.values()}

    def add_images(self, files: Iterable[Pages]) -> list[dict[str, str]]:
        """Takes new images; returns refusals. An image that is there under the same name is passed over."""
        refused = []
        for pages in files:
            for facts in pages:
                name = page_name(facts["name"], facts["page"], pages=facts["pages"])
                there = self.rows.get(name)
                if there is None:
                    self.add(name, facts, file=facts["name"])
                elif there.image != facts["sha256"]:
                    refused.append(
                        {
                            "name": name,
                            "reason": "The dataset holds another image of this name.",
                            "remedy": "Rename the file or its folder and add it again.",
                        }
                    )
        return refused

    def pair(self, paired: Pairing, *, masks: Mapping[str, Pages]) -> list[dict[str, str]]:
        """Gives the images their masks; returns refusals. A mask of the same layer replaces an earlier one."""
        refused = []
        wanted = {file: layers for file, layers in paired.masks.items() if layers}
        names = {
            file: [page_name(file, page, pages=len(masks[next(iter(layers.values())).name])) for page in range(n)]
            for file, layers in wanted.items()
            for n in [len(masks[next(iter(layers.values())).name])]
        }
        items = self.items([name for group in names.values() for name in group])
        for file, layers in wanted.items():
            for layer, found in layers.items():
                for name, facts in zip(names[file], masks[found.name], strict=True):
                    item = items[name]
                    if (facts["width"], facts["height"]) != (item.width, item.height):
                        reason = (
                            f"The mask is {facts['width']:,} x {facts['height']:,} px and its image {name} "
                            f"{item.width:,} x {item.height:,}."
                        )
                        refused.append(
                            {"name": found.name, "reason": reason, "remedy": "Export it at the image's size."}
                        )
                        item.facts = {**item.facts, "size_mismatch": reason}
                        self.changed(item)
                        continue
                    mask = {
                        "sha256": facts["sha256"],
                        "page": facts["page"],
                        "name": found.name,
                        "rule": found.rule,
                        "values": facts["values"],
                    } | ({"only": facts["only"]} if "only" in facts else {})
                    if item.masks.get(layer) != mask:
                        item.masks = {**item.masks, layer: mask}
                        item.facts = {key: value for key, value in item.facts.items() if key != "size_mismatch"}
                        self.changed(item)
        return refused

    def regroup(self) -> None:
        """Guesses stacks anew, as slices may come one by one. An item that has a group keeps it."""
        files = {entry.name: entry for entry in self.files()}
        sizes = {file_of(item.name, item.facts): (item.width, item.height) for item in self._all()}
        found = places([(name, *sizes[name]) for name in files])
        alone = [row.name for row in self.rows.values() if not row.group]
        moved = [name for name in alone if name in found and found[name].group]
        items = self.items(moved)
        for item in [*self.new.values(), *items.values()]:
            file = file_of(item.name, item.facts)
            place = found[file].at(item.page, of=files[file])
            if item.pk is None:
                item.split = place.split
            if not item.group:
                item.group, item.index = place.group[:400], place.index
                if item.pk is not None:
                    self.changed(item)

    def apply_table(self, finder: LabelLookup) -> tuple[int, set[tuple[int, int]]]:
        """Applies a table of labels to all images, old and new. Returns how many it labels, and their sizes."""
        by_name = {item.name: entry for item in self._all() if (entry := finder.find(file_of(item.name, item.facts)))}
        labelled, sizes = 0, set()
        for item in self.items(list(by_name)).values():
            entry = by_name[item.name]
            labelled += bool(entry.label)
            sizes.add((item.width, item.height))
            if _apply(entry, item):
                self.changed(item)
        return labelled, sizes

    def label(self, labels: Mapping[str, str]) -> int:
        """Labels the images of these files, unless one of them has another label already. Returns how many it does."""
        wanted = {item.name: labels.get(file_of(item.name, item.facts), "") for item in self._all()}
        if any(item.label not in ("", wanted[item.name]) for item in self._all()):
            return 0
        bare = [item.name for item in self._all() if not item.label and wanted[item.name]]
        for item in self.items(bare).values():
            item.label = wanted[item.name][:LABEL]
            self.changed(item)
        return len(bare)

    def has_masks(self) -> bool:
        return any(self._has_mask(item) for item in self._all())

    def find_problems(self) -> None:
        """Names the classes of layers that have none yet, and lists the problems of items that are added or changed."""
        self._call_unpaired()
        inverted = self._call_inverted()
        changed = [*self.new.values(), *self.touched.values()]
        layers = {layer for item in changed for layer in item.masks}
        for layer in sorted(layers - set(self.dataset.classes)):
            found = classes.classes_of((item.masks[layer] for item in changed if layer in item.masks), name=layer)
            if found:
                self.dataset.classes = {**self.dataset.classes, layer: found}
        for item in changed:
            item.problems = problems.image_problems(item.facts) + problems.mask_problems(
                item.masks, classes=self.dataset.classes
            )
            if self.dataset.kind == Dataset.Kind.PHOTOGRAPHS:
                item.problems = [each for each in item.problems if each["kind"] != "colour"]
            if item.facts.get("size_mismatch"):
                item.problems.append(problems.problem("size_mismatch", item.facts["size_mismatch"]))
            elif item.name in self._unpaired and not item.masks:
                item.problems.append(problems.problem("unpaired", "No mask was found for this image."))
            if item.name in inverted:
                item.problems.append(problems.problem(inverted_marks.KIND, inverted[item.name]))

    def files(self) -> Iterator[Entry]:
        """Every image file of the dataset, once."""
        seen = set()
        for item in self._all():
            name = file_of(item.name, item.facts)
            if name not in seen:
                seen.add(name)
                yield Entry(name, item.facts.get("pages", 1))

    def _all(self) -> Iterator[Row | Item]:
        yield from self.rows.values()
        yield from self.new.values()

    def add(self, name: str, facts: Mapping[str, Any], *, file: str) -> Item:
        """A new item of a page that intake has looked at. `file` is what its file is called, where it has several."""
        content = (facts["sha256"], facts["page"])
        twin = self._by_content.setdefault(content, name)
        kept = {key: facts[key] for key in ("constant", "colour", "likeness", "tone") if facts.get(key)}
        if facts["notes"]:
            kept["notes"] = facts["notes"]
        if facts["pages"] > 1:
            kept |= {"file": file, "pages": facts["pages"]}
        if twin != name:
            kept["duplicate_of"] = twin
        self.new[name] = item = Item(
            dataset=self.dataset,
            name=name,
            image=facts["sha256"],
            page=facts["page"],
            width=facts["width"],
            height=facts["height"],
            dtype=facts["dtype"],
            low=facts["low"],
            high=facts["high"],
            thumbnail=facts["thumbnail"],
            pixel_size_nm=facts["pixel_size_nm"],
            facts=kept,
        )
        return item

    def items(self, names: Sequence[str]) -> dict[str, Item]:
        """Items to look at and perhaps to change, by name."""
        found = {name: self.new[name] for name in names if name in self.new}
        ids = [self.rows[name].id for name in names if name in self.rows]
        found |= {item.name: item for pk in ids if (item := self.touched.get(pk)) is not None}
        missing = [pk for pk in ids if pk not in self.touched]
        for start in range(0, len(missing), CHUNK):
            found |= {item.name: item for item in Item.objects.filter(pk__in=missing[start : start + CHUNK])}
        return found

    def changed(self, item: Item) -> None:
        """Says that an item that was there is another now; a new one needs no word."""
        if item.pk is not None:
            self.touched[item.pk] = item

    def _call_unpaired(self) -> None:
        """An image without a mask is a problem where most images in its folder have one."""
        masked: Counter[PurePosixPath] = Counter()
        total: Counter[PurePosixPath] = Counter()
        bare: dict[str, PurePosixPath] = {}
        for item in self._all():
            folder = PurePosixPath(item.name).parent
            total[folder] += 1
            if self._has_mask(item):
                masked[folder] += 1
            else:
                bare[item.name] = folder
        self._unpaired = {name for name, folder in bare.items() if masked[folder] * 2 >= total[folder]}
        late = [name for name in self._unpaired if name in self.rows and not self.rows[name].called_unpaired]
        for item in self.items(late).values():
            self.changed(item)

    def _call_inverted(self) -> dict[str, str]:
        """Name -> why, of images that look inverted; those for which this is news count as changed."""
        if self.dataset.kind == Dataset.Kind.PHOTOGRAPHS:
            return {}
        held = {name: self.touched.get(row.id, row) for name, row in self.rows.items()} | self.new
        found = inverted_marks.inverted_of(
            (name, item.group, item.turned if isinstance(item, Row) else item.low > item.high, item.facts)
            for name, item in held.items()
        )
        late = [name for name, row in self.rows.items() if row.called_inverted != (name in found)]
        for item in self.items(late).values():
            self.changed(item)
        return found

    def _has_mask(self, item: Row | Item) -> bool:
        if isinstance(item, Row):
            touched = self.touched.get(item.id)
            return bool(touched.masks) if touched is not None else item.masked
        return bool(item.masks)


def _apply(entry: LabelEntry, item: Item) -> bool:
    """Applies an entry of a table to an item; returns whether that changed it."""
    facts = {**item.facts, **entry.facts}
    new = {
        "label": entry.label[:LABEL] or item.label,
        "split": entry.split or item.split,
        "group": entry.group[:400] or item.group,
        "pixel_size_nm": entry.pixel_size_nm or item.pixel_size_nm,
        "facts": facts,
    }
    changed = any(getattr(item, key) != value for key, value in new.items())
    for key, value in new.items():
        setattr(item, key, value)
    return changed
