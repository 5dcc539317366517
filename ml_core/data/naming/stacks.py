"""Groups images into stacks and orders their slices, by file names. Imports no torch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from ml_core.data.naming.pairing import IMAGE_FOLDER, Entry, split_by_folder

_PATCH = re.compile(
    r"^(?P<group>.*(?:slice|section|stack|volume|animal|mouse|cell)[ _-]?\d+)[ _-]+\D*(?P<index>\d{1,9})$",
    re.IGNORECASE,
)


_SLICE = re.compile(r"^(?P<group>.*?)[ ._-]*(?:[a-z]+)?(?P<index>\d{3,9})$", re.IGNORECASE)


STACK_AT_LEAST = 8
"""At least this many numbered files of one size in one folder count as the slices of a stack."""


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts `slice_9` before `slice_10`."""
    return [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in re.split(r"(\d+)", name.lower()) if p]


def page_name(name: str, page: int, *, pages: int) -> str:
    """A page's name: that of its file, with the slice's number where the file has several pages."""
    return f"{name}#{page + 1:0{len(str(pages))}d}" if pages > 1 else name


@dataclass(frozen=True, slots=True)
class Place:
    """An image's stack (or volume, or animal), its index in it, and the split part that a folder names.

    `group` is empty for an image without a stack.
    """

    group: str
    index: int
    split: str

    def at(self, page: int, *, of: Entry) -> Place:
        """The place of one page of a file: a file with pages is a stack of its own."""
        return Place(of.name, page, self.split) if of.pages > 1 else self


def places(images: Iterable[tuple[str, int, int]]) -> dict[str, Place]:
    """Guesses group, index and split of each image (name, width, height) from its name and its neighbours' names.

    Numbered files of one size in one folder are slices of one stack where there are STACK_AT_LEAST of them and the
    numbers have three digits or more; `Slice_100_Sample_7` belongs to slice 100.
    """
    found: dict[str, Place] = {}
    stacks: dict[tuple[str, int, int], list[tuple[str, int]]] = defaultdict(list)
    for name, width, height in images:
        path = PurePosixPath(name)
        stem = path.name.removesuffix(path.suffix)
        split = split_by_folder(name)
        found[name] = Place("", 0, split)
        if match := _PATCH.match(stem):
            found[name] = Place(_group_name(path, match.group("group")), int(match.group("index")), split)
        elif match := _SLICE.match(stem):
            stacks[_group_name(path, match.group("group")), width, height].append((name, int(match.group("index"))))
    for (group, width, height), slices in stacks.items():
        if len(slices) >= STACK_AT_LEAST:
            one_size = sum(key[0] == group and len(s) >= STACK_AT_LEAST for key, s in stacks.items()) == 1
            for name, number in slices:
                found[name] = Place(group if one_size else f"{group} ({width} x {height})", number, found[name].split)
    return found


def _group_name(path: PurePosixPath, own: str) -> str:
    """`training/images/training_0004.png` belongs to the stack `training`."""
    parts = [p for p in path.parts[:-1] if not IMAGE_FOLDER.match(p)]
    if own and (not parts or parts[-1].lower() != own.lower()):
        parts.append(own)
    return "/".join(parts) or "stack"
