"""What makes scores too high: images in different parts of the split that show nearly the same.

Neighbouring slices of a stack do, and so do images that are in the dataset twice, cut, stretched or saved anew.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma

from ml_core.data.manifests.splits import PARTS
from ml_core.imaging.perceptual_hash import near_duplicates_across
from webapp.datasets.models import Item

EXAMPLES = 20
NEAR = 3
"""Slices so few apart show the same. A split leaves a gap of 10, fewer only where a stack is too short for it."""
_SIDE = {name: number for number, name in enumerate(PARTS, start=1)}


class LeakSearch:
    """Reads a revision's items one by one, and lists at the end the pairs in different split parts."""

    def __init__(self) -> None:
        self._stacks: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        self._ids: list[int] = []
        self._names: list[str] = []
        self._bits: list[str] = []
        self._sides: list[int] = []
        self._groups: list[str] = []

    def add(self, item: Item) -> None:
        side = _SIDE.get(item.split)
        if side is None:
            return
        place = len(self._ids)
        self._ids.append(item.pk)
        self._names.append(item.name)
        self._bits.append(str(item.facts.get("likeness", "")))
        self._sides.append(side)
        self._groups.append(item.group)
        if item.group:
            self._stacks[item.group].append((item.index, side, place))

    def found(self) -> list[dict[str, Any]]:
        """Per kind of leak: `kind`, `sentence`, `count` and `examples` (pairs of item ids), for a summary."""
        kinds = [self._neighbours(), self._alike()]
        return [kind for kind in kinds if kind is not None]

    def _neighbours(self) -> dict[str, Any] | None:
        """Slices of one stack, at most NEAR apart, on two sides."""
        pairs: list[tuple[int, int]] = []
        stacks = []
        for stack, slices in self._stacks.items():
            slices.sort()
            near = [(a[2], b[2]) for a, b in itertools.pairwise(slices) if a[1] != b[1] and b[0] - a[0] <= NEAR]
            if near:
                stacks.append(stack)
                pairs += near
        if not pairs:
            return None
        one, two = pairs[0]
        sentence = (
            f"{self._names[one]} and {self._names[two]} are neighbours in the stack {stacks[0]}; one is in "
            f"{PARTS[self._sides[one] - 1]}, one in {PARTS[self._sides[two] - 1]}, so scores come out too high. "
            f"{intcomma(len(pairs))} such pairs in {_counted(len(stacks), 'stack')}. Split by stack."
        )
        return self._leak("neighbours", sentence, pairs)

    def _alike(self) -> dict[str, Any] | None:
        """Images that look the same on two sides."""
        pairs = self._alike_pairs()
        if not pairs:
            return None
        one, two = pairs[0]
        sentence = (
            f"{_counted(len(pairs), 'pair')} of images look the same and are in different parts of the split: "
            f"{self._names[one]} ({PARTS[self._sides[one] - 1]}) and {self._names[two]} "
            f"({PARTS[self._sides[two] - 1]}), for one. Leave one of each pair out, or put both in one part."
        )
        return self._leak("alike", sentence, pairs)

    def near_duplicates(self) -> list[tuple[int, int]]:
        """Ids of all images that look the same on two sides, in pairs."""
        return [(self._ids[a], self._ids[b]) for a, b in self._alike_pairs()]

    def _alike_pairs(self) -> list[tuple[int, int]]:
        pairs = near_duplicates_across(self._bits, self._sides)
        # Slices of one stack are reported as neighbours.
        return [(a, b) for a, b in pairs if not self._groups[a] or self._groups[a] != self._groups[b]]

    def _leak(self, kind: str, sentence: str, pairs: list[tuple[int, int]]) -> dict[str, Any]:
        examples = [[self._ids[a], self._ids[b]] for a, b in pairs[:EXAMPLES]]
        return {"kind": kind, "sentence": sentence, "count": len(pairs), "examples": examples}


def _counted(count: int, word: str) -> str:
    return f"{intcomma(count)} {word}{'' if count == 1 else 's'}"
