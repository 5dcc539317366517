"""Pairs masks with images by their file names alone. Imports no torch.

Rules, in this order: `folder` (`images/x.png` with `masks/x.png`; `masks_membranes/` is a layer of its own), `suffix`
(`x.png` with `x_mask.png`), `stack` (one stack of images with one of masks and as many slices), `numbers`
(`..._100_Sample_1` with `...100_Sample_1`). The rule that was used is stored with each pair.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

DEFAULT_LAYER = "mask"


_WORDS = r"masks?|labels?|ground[_-]?truths?|gts?"


_MASK_FOLDER = re.compile(
    rf"^(?:(?:(?P<before>.+)[_-])?(?:{_WORDS})(?:[_-](?P<after>.+))?|annotations?|segmentations?)$", re.IGNORECASE
)


_MASK_SUFFIX = re.compile(
    rf"^(?P<stem>.+)[_.-](?:{_WORDS}|seg|segmentation|annotation)(?:[_-](?P<layer>[a-z]+))?$", re.IGNORECASE
)


IMAGE_FOLDER = re.compile(r"^(?:images?|imgs?|raw|em|micrographs?|inputs?|data)$", re.IGNORECASE)


_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


_IN_OUT = re.compile(r"^(?P<part>train|test|val|validation)[_-](?P<side>in|out)$", re.IGNORECASE)
"""Casser et al.'s layout, in which images lie in `Train_In` and their masks in `Train_Out` beside it."""


_KNOWN_SETS = re.compile(r"^(?P<name>lucchi|kasthuri)(?:\+\+|[_-]?pp)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path within the upload (with /), and how many pages it has."""

    name: str
    pages: int = 1


@dataclass(frozen=True, slots=True)
class MaskFound:
    """The mask of an image and the rule by which it was found."""

    name: str
    rule: str


@dataclass
class Pairing:
    """`masks` is image name -> layer -> mask. `unpaired` lists masks without an image."""

    images: list[Entry] = field(default_factory=list)
    masks: dict[str, dict[str, MaskFound]] = field(default_factory=dict)
    unpaired: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Role:
    """Whether a file is an image or a mask, parsed from its name. `scope` is the folder in which a mask's image is
    searched, `below` the path of folders from there, `stem` the name without suffixes."""

    layer: str
    """Empty for an image."""
    scope: PurePosixPath
    below: PurePosixPath
    stem: str
    by_folder: bool = False


@dataclass(frozen=True, slots=True)
class InOut:
    """A file in Casser et al.'s layout: its split part, whether it is a mask, its images' folder, and the set's name
    where known."""

    split: str
    is_mask: bool
    images: PurePosixPath
    set_name: str


def in_out_of(name: str) -> InOut | None:
    """Parses a file's path in that layout; None for a file outside of it."""
    path = PurePosixPath(name)
    match = _IN_OUT.match(path.parent.name)
    if match is None:
        return None
    part, side = match.group("part"), match.group("side")
    known = next((m.group("name") for p in path.parts[:-2] if (m := _KNOWN_SETS.match(p))), "")
    beside = path.parent.name[: match.start("side")] + ("In" if side[0].isupper() else "in")
    return InOut(
        split=split_of(part),
        is_mask=side.lower() == "out",
        images=path.parent.with_name(beside),
        set_name=f"{known.capitalize()}++" if known else "",
    )


def split_of(word: str) -> str:
    """Maps common words for a split part to train, validation or test; empty for another word."""
    return _SPLITS.get(word.strip().lower(), "")


def split_by_folder(name: str) -> str:
    """The split part by a file's innermost folder that names one: train, validation or test; empty where none does."""
    folders = (_IN_OUT.sub(r"\g<part>", folder) for folder in reversed(PurePosixPath(name).parts[:-1]))
    return next((part for folder in folders if (part := split_of(folder))), "")


def role_of(name: str) -> Role:
    """Whether a file is an image or a mask, by its folders first and its own name second."""
    path = PurePosixPath(name)
    if (place := in_out_of(name)) is not None:
        stem = path.name.removesuffix(path.suffix)
        layer = "" if not place.is_mask else "mitochondria" if place.set_name else DEFAULT_LAYER
        return Role(layer, scope=place.images, below=PurePosixPath(), stem=stem, by_folder=place.is_mask)
    folders, stem = path.parts[:-1], path.name.removesuffix(path.suffix)
    for depth in reversed(range(len(folders))):
        if IMAGE_FOLDER.match(folders[depth]):
            break  # `mito-labels/images/x.png` is an image, whatever the name of the project's folder.
        if match := _MASK_FOLDER.match(folders[depth]):
            suffix = _MASK_SUFFIX.match(stem)
            return Role(
                layer=_layer_of(match),
                scope=PurePosixPath(*folders[:depth]),
                below=PurePosixPath(*folders[depth + 1 :]),
                stem=suffix.group("stem") if suffix else stem,
                by_folder=True,
            )
    if match := _MASK_SUFFIX.match(stem):
        return Role(
            layer=(match.group("layer") or DEFAULT_LAYER).lower(),
            scope=path.parent,
            below=PurePosixPath(),
            stem=match.group("stem"),
        )
    return Role(layer="", scope=path.parent, below=PurePosixPath(), stem=stem)


def pair(files: Iterable[Entry]) -> Pairing:
    """Finds the images among `files`, and each mask's image."""
    result = Pairing()
    masks: list[tuple[Entry, Role]] = []
    for entry in files:
        role = role_of(entry.name)
        if role.layer:
            masks.append((entry, role))
        else:
            result.images.append(entry)
    index = _Index(result.images)
    taken: dict[tuple[str, str], str] = {}
    left: dict[tuple[PurePosixPath, PurePosixPath, str], list[tuple[Entry, Role]]] = defaultdict(list)
    for entry, role in masks:
        image = index.by_stem(role, pages=entry.pages)
        if image is not None and (image, role.layer) not in taken:
            taken[image, role.layer] = entry.name
            result.masks.setdefault(image, {})[role.layer] = MaskFound(
                entry.name, "folder" if role.by_folder else "suffix"
            )
        else:
            left[role.scope, role.below, role.layer].append((entry, role))
    for group in left.values():
        result.unpaired += _pair_rest(group, index=index, taken=taken, result=result)
    return result


class _Index:
    """Index of the images by folder, and within a folder by name, number of slices and sequence of numbers.

    A mask's image is searched first in the folder that the mask's path implies, and only then in all: thousands of
    mask folders beside thousands of image folders are paired in seconds.
    """

    def __init__(self, images: Sequence[Entry]) -> None:
        self._stems: dict[tuple[PurePosixPath, str], Entry] = {}
        self._having: dict[str, list[PurePosixPath]] = defaultdict(list)
        """Stem -> folders that hold it."""
        self._under: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
        """Folder -> itself and all folders of images below it."""
        self._alike: dict[tuple[str, ...], list[PurePosixPath]] = defaultdict(list)
        """Path without `images/` and its like -> folders."""
        self._values: dict[str, dict[Hashable, dict[PurePosixPath, list[Entry]]]] = {
            rule: defaultdict(dict) for rule in _KEYS
        }
        """Rule -> its key -> folder -> images."""
        seen: set[PurePosixPath] = set()
        for entry in images:
            path = PurePosixPath(entry.name)
            folder, stem = path.parent, path.name.removesuffix(path.suffix).lower()
            if self._stems.setdefault((folder, stem), entry) is entry:
                self._having[stem].append(folder)
            if folder not in seen:
                seen.add(folder)
                self._alike[_without_image_folders(folder)].append(folder)
                for above in (folder, *folder.parents):
                    self._under[above].append(folder)
            for rule, key in _KEYS.items():
                if (value := key(entry)) is not None:
                    self._values[rule][value].setdefault(folder, []).append(entry)
        self._likely: dict[tuple[PurePosixPath, PurePosixPath], list[PurePosixPath]] = {}
        self._ranks: dict[PurePosixPath, dict[PurePosixPath, int]] = {}
        self._elsewhere: dict[tuple[PurePosixPath, str, int], str | None] = {}
        self._queues: dict[tuple[PurePosixPath, str, str, Hashable], list[PurePosixPath]] = {}

    def by_stem(self, role: Role, *, pages: int) -> str | None:
        """The image with a mask's own name: in the folder that its path implies, else in the first that has it."""
        stem = role.stem.lower()
        for folder in self._likely_of(role):
            found = self._stems.get((folder, stem))
            if found is not None and found.pages == pages:
                return found.name
        key = (role.scope, stem, pages)
        if key not in self._elsewhere:
            there = (self._stems[folder, stem] for folder in self._ranked(self._having.get(stem, ()), role.scope))
            self._elsewhere[key] = next((found.name for found in there if found.pages == pages), None)
        return self._elsewhere[key]

    def by_value(
        self, rule: str, value: Hashable, role: Role, *, pages: int, taken: Container[tuple[str, str]]
    ) -> Entry | None:
        """The image of this key, from the first folder in which it is the only one that has no mask yet."""
        held = self._values[rule].get(value, {})

        def free(folder: PurePosixPath) -> list[Entry]:
            return [entry for entry in held.get(folder, ()) if (entry.name, role.layer) not in taken]

        for folder in self._likely_of(role):
            if len(found := free(folder)) == 1 and found[0].pages == pages:
                return found[0]
        key = (role.scope, role.layer, rule, value)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = self._ranked(held, role.scope)[::-1]
        while queue and not free(queue[-1]):  # All images of that folder have masks already and keep them.
            queue.pop()
        alone = (found[0] for folder in reversed(queue) if len(found := free(folder)) == 1)
        return next((image for image in alone if image.pages == pages), None)

    def _likely_of(self, role: Role) -> list[PurePosixPath]:
        """`images/` beside the mask's folder, then the folder above."""
        key = (role.scope, role.below)
        if key not in self._likely:
            path = (*_without_image_folders(role.scope), *role.below.parts)
            near = [f for f in self._alike.get(path, ()) if f == role.scope or role.scope in f.parents]
            self._likely[key] = sorted(near, key=lambda folder: _rank(folder, role.scope))
        return self._likely[key]

    def _ranked(self, folders: Collection[PurePosixPath], scope: PurePosixPath) -> list[PurePosixPath]:
        """Those of the folders that lie in `scope`, most likely first."""
        if scope not in self._ranks:
            order = sorted(self._under.get(scope, ()), key=lambda folder: _rank(folder, scope))
            self._ranks[scope] = {folder: rank for rank, folder in enumerate(order)}
        ranks = self._ranks[scope]
        if len(ranks) < len(folders):
            wanted = set(folders)
            return [folder for folder in ranks if folder in wanted]
        return sorted((folder for folder in folders if folder in ranks), key=ranks.__getitem__)


def _without_image_folders(folder: PurePosixPath) -> tuple[str, ...]:
    return tuple(part for part in folder.parts if not IMAGE_FOLDER.match(part))


def _rank(folder: PurePosixPath, scope: PurePosixPath) -> tuple[bool, str]:
    named = any(IMAGE_FOLDER.match(part) for part in folder.relative_to(scope).parts)
    return not named and folder != scope, str(folder)


def _pair_rest(
    masks: list[tuple[Entry, Role]], *, index: _Index, taken: dict[tuple[str, str], str], result: Pairing
) -> list[Entry]:
    """Pairs stacks, then equal sequences of numbers, within one folder of masks; returns the unpaired masks."""
    role = masks[0][1]
    left = {entry.name: entry for entry, _ in masks}
    for rule, key in _KEYS.items():
        for value, mask in _unique(left.values(), key).items():
            image = index.by_value(rule, value, role, pages=mask.pages, taken=taken)
            if image is None:
                continue
            taken[image.name, role.layer] = mask.name
            result.masks.setdefault(image.name, {})[role.layer] = MaskFound(mask.name, rule)
            del left[mask.name]
    return list(left.values())


def _unique(entries: Iterable[Entry], key: Callable[[Entry], Hashable]) -> dict[Hashable, Entry]:
    """Key -> entry, for keys that exactly one entry has: ambiguous pairs are left to the user."""
    found: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        if (value := key(entry)) is not None:
            found[value].append(entry)
    return {value: group[0] for value, group in found.items() if len(group) == 1}


def numbers_of(name: str) -> tuple[int, ...]:
    """All numbers in a file's own name, in order."""
    return tuple(int(n) for n in re.findall(r"\d+", PurePosixPath(name).stem))


_KEYS: dict[str, Callable[[Entry], Hashable]] = {
    "stack": lambda entry: entry.pages if entry.pages > 1 else None,
    "numbers": lambda entry: numbers_of(entry.name) or None,
}
"""Rule -> the key that image and mask must share; None where a file has no such key."""


def label_folders(name: str) -> tuple[str, ...]:
    """The folders of a file's name that may name its class: without `images/`, `training/` and the like."""
    folders = PurePosixPath(name).parts[:-1]
    return tuple(f for f in folders if not (IMAGE_FOLDER.match(f) or _IN_OUT.match(f) or split_of(f)))


def _layer_of(match: re.Match[str]) -> str:
    """The layer that a folder of masks names: `masks_membranes` and `membrane_masks` do, `train_masks` does not."""
    for word in (match.group("after"), match.group("before")):
        if word and word.lower() not in _SPLITS:
            return word.lower()
    return DEFAULT_LAYER
