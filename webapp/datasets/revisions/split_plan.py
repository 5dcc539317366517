"""How a dataset would be split anew: which image on which side and by which rule, before anything is changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from ml_core.data.manifests import splits
from ml_core.data.naming.pairing import split_by_folder
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Item

SHARES, FOLDERS = "shares", "folders"
RULES = (SHARES, FOLDERS)


@dataclass(frozen=True, kw_only=True)
class SplitRequest:
    """By shares of the images for `validation` and `test`, and a seed; or by the names of folders."""

    rule: str = SHARES
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0

    @property
    def validation_percent(self) -> str:
        return f"{100 * self.validation:g}"

    @property
    def test_percent(self) -> str:
        return f"{100 * self.test:g}"


@dataclass(frozen=True)
class PlannedSide:
    """`stacks`: stacks with images in this part."""

    name: str
    images: int
    share: str
    stacks: int


@dataclass(frozen=True)
class SplitPlan:
    """A split that has not been made. `wanted` is side -> ids of the images that would come to it."""

    sentence: str
    sides: list[PlannedSide]
    wanted: dict[str, list[int]]

    @property
    def moved(self) -> int:
        return sum(len(ids) for ids in self.wanted.values())

    @property
    def counts(self) -> str:
        """ "train 40, validation 20, test 20" """
        counted = {side.name: side.images for side in self.sides}
        return ", ".join(f"{part} {counted[part]:,}" for part in splits.PARTS)


def split_plan(items: QuerySet[Item], asked: SplitRequest) -> SplitPlan:
    """The split part each item would get. Slices in a gap get none. Raises EditRefused."""
    if asked.rule not in RULES:
        raise EditRefused("Choose a split by shares or by folders.")
    if asked.rule == SHARES and not (
        0 <= asked.validation < 1 and 0 <= asked.test < 1 and 0 < asked.validation + asked.test < 1
    ):
        raise EditRefused("Validation and test are shares between 0 and 100 %, and together less than all.")
    rows = [_Row(*row) for row in items.order_by("position", "id").values_list("pk", "name", "group", "index", "split")]
    if len(rows) < 2:
        raise EditRefused("There is nothing to split: the dataset has fewer than 2 images.")
    places, sentence = _by_folders(rows) if asked.rule == FOLDERS else _by_shares(rows, asked)
    wanted: dict[str, list[int]] = defaultdict(list)
    for row, side in zip(rows, places, strict=True):
        if row.now != side:
            wanted[side].append(row.id)
    counts = Counter(places)
    stacks: dict[str, set[str]] = defaultdict(set)
    for row, side in zip(rows, places, strict=True):
        if row.group:
            stacks[side].add(row.group)
    sides = [
        PlannedSide(name, counts[name], f"{100 * counts[name] / len(rows):.0f}", len(stacks[name]))
        for name in (*splits.PARTS, "")
    ]
    return SplitPlan(sentence, sides, dict(wanted))


@dataclass(frozen=True, slots=True)
class _Row:
    """What a split looks at in an item; what it has now is not among it."""

    id: int
    name: str
    group: str
    index: int
    now: str
    split: str = ""


def _by_shares(rows: Sequence[_Row], asked: SplitRequest) -> tuple[list[str], str]:
    found = splits.split(rows, validation=asked.validation, test=asked.test, seed=asked.seed)
    places = [""] * len(rows)
    for part in splits.PARTS:
        for place in getattr(found, part).tolist():
            places[place] = part
    return places, found.sentence


def _by_folders(rows: Sequence[_Row]) -> tuple[list[str], str]:
    places = [split_by_folder(row.name) for row in rows]
    if not any(places):
        raise EditRefused(
            "No image lies in a folder named train, validation or test. Split by shares, or choose images in "
            "the grid and set their split part."
        )
    left = places.count("")
    rest = f" {left:,} images lie in no such folder and get no split." if left else ""
    return places, f"By folder: images are in the part that their folder names.{rest}"
