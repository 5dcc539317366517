"""Stratified splits for classification: classes in proportion in every part, each stack in one. Imports no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml_core.data.manifests.manifest import ManifestItem
from ml_core.data.manifests.splits import Split, as_split, cut_into_blocks, random_sentence

SHARES = (0.7, 0.1, 0.2)
"""Training, validation and test (paper, section V: 70,000, 10,000 and 20,000 of 100,000 images)."""

Parts = list[list[int]]
"""Positions in the manifest: training, validation, test."""


def stratified_split(
    items: Sequence[ManifestItem],
    *,
    positions: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    rule: Literal["dataset", "random"],
    seed: int,
) -> Split:
    """Splits the items at `positions` (N,), which belong to the classes of numbers `labels` (N,).

    `dataset` takes the dataset's own split where it has one, and takes a validation part from its training part where
    that is missing; else a group stays in one part, and a class with too few stacks for three parts has these cut into
    blocks with a gap. `random` is the paper's rule. A class may be absent from a part: see `labelled`.
    """
    of = dict(zip(positions.tolist(), labels.tolist(), strict=True))
    if rule == "random":
        parts = _at_random(of, shares=SHARES, seed=seed)
        return as_split(items, parts=parts, sentence=random_sentence(items, positions=positions))
    own = [[p for p in of if items[p].split == part] for part in ("train", "validation", "test")]
    if not own[0]:
        parts, sentence = _by_groups(items, of, classes=classes, shares=SHARES, seed=seed)
        return as_split(items, parts=parts, sentence=sentence)
    if own[1]:
        return as_split(items, parts=own, sentence="By the dataset's own split.")
    share = SHARES[1] / (SHARES[0] + SHARES[1])
    learned, how = _by_groups(
        items, {p: of[p] for p in own[0]}, classes=classes, shares=(1 - share, share, 0.0), seed=seed
    )
    how = how[0].lower() + how[1:]
    sentence = f"By the dataset's own split; validation images are taken from its training part: {how}"
    return as_split(items, parts=[learned[0], learned[1], own[2]], sentence=sentence)


def _at_random(of: Mapping[int, int], *, shares: Sequence[float], seed: int) -> Parts:
    """Splits each class at random by itself; a class of three images has one in each part."""
    chance = np.random.default_rng((seed, 4))
    parts: Parts = [[], [], []]
    for _, own in sorted(_by_class(of).items()):
        _deal(chance.permutation(own).tolist(), parts=parts, wanted=[share * len(own) for share in shares])
    return parts


def _by_groups(
    items: Sequence[ManifestItem], of: Mapping[int, int], *, classes: Sequence[str], shares: Sequence[float], seed: int
) -> tuple[Parts, str]:
    chance = np.random.default_rng((seed, 5))
    groups: dict[str, list[int]] = defaultdict(list)
    for position in of:
        # An image without a group is a group by itself; a space cannot begin a group's name.
        groups[items[position].group or f" {position}"].append(position)
    parts: Parts = [[], [], []]
    cut = _cut_lone_stacks(items, of=of, groups=groups, parts=parts, shares=shares, seed=seed)
    stacks = [group for group in groups.values() if len(group) > 1]
    alone = {group[0]: of[group[0]] for group in groups.values() if len(group) == 1}
    order = [stacks[n] for n in chance.permutation(len(stacks))]
    _place_stacks(order, of={p: c for p, c in of.items() if c not in cut}, parts=parts, shares=shares)
    totals = np.bincount(list(of.values()))
    have = [np.bincount([of[p] for p in part], minlength=len(totals)) for part in parts]
    for number, own in sorted(_by_class(alone).items()):
        wanted = [share * totals[number] - h[number] for share, h in zip(shares, have, strict=True)]
        _deal(chance.permutation(own).tolist(), parts=parts, wanted=wanted)
    sentences = []
    if stacks:
        sentences.append(
            f"By stack: all images of a stack are in one part, classes in proportion as far as that allows "
            f"({len(groups)} groups, seed {seed})."
        )
    elif alone:
        sentences.append(f"Images at random within each class, as each stands alone (seed {seed}).")
    for rule in sorted(set(cut.values())):
        named = ", ".join(classes[number] for number in sorted(cut) if cut[number] == rule)
        sentences.append(f"Stacks of {named} are too few for three parts, so each is cut into {rule}")
    return parts, " ".join(sentences)


def _cut_lone_stacks(
    items: Sequence[ManifestItem],
    *,
    of: Mapping[int, int],
    groups: dict[str, list[int]],
    parts: Parts,
    shares: Sequence[float],
    seed: int,
) -> dict[int, str]:
    """Cuts the stacks of classes that have fewer stacks than there are parts, and removes these from `groups`.

    Only stacks of a single class: a cut through others would separate neighbours. Returns the rule by class.
    """
    holders: dict[int, set[str]] = defaultdict(set)
    for name, group in groups.items():
        for position in group:
            holders[of[position]].add(name)
    needed = sum(share > 0 for share in shares)
    cut: dict[int, str] = {}
    for number, names in sorted(holders.items()):
        pure = all(of[p] == number for name in names for p in groups[name])
        if len(names) >= needed or not pure or max(len(groups[name]) for name in names) == 1:
            continue
        for name in sorted(names):
            group = groups.pop(name)
            if len(group) < needed:
                parts[0] += group
                continue
            blocks, how = cut_into_blocks(items, positions=group, shares=shares, seed=seed)
            for part, block in zip(parts, blocks, strict=True):
                part += block
            cut[number] = how[how.index("contiguous blocks") :]
    return cut


def _place_stacks(stacks: Sequence[list[int]], *, of: Mapping[int, int], parts: Parts, shares: Sequence[float]) -> None:
    """Assigns each stack to a part, with the classes in proportion as far as possible.

    First every class gets a stack in every part, the class with the fewest stacks first; then the largest stacks go
    where they bring the counts nearest to the wanted ones.
    """
    if not stacks:
        return
    kinds = max(of.values()) + 1
    totals = np.bincount(list(of.values()), minlength=kinds)
    wanted = np.outer(shares, totals)
    counts = np.zeros((3, kinds))
    content = [np.bincount([of[p] for p in stack], minlength=kinds) for stack in stacks]
    free = dict.fromkeys(range(len(stacks)))

    def put(n: int, part: int) -> None:
        parts[part].extend(stacks[n])
        counts[part] += content[n]
        del free[n]

    rarity = np.sum([c > 0 for c in content], axis=0)
    alone = totals - np.sum(content, axis=0)
    for number in sorted(np.flatnonzero(rarity).tolist(), key=lambda k: int(rarity[k])):
        if alone[number] >= len(shares):
            continue  # Images without a group fill this part.
        for part in (2, 1, 0):
            holding = [n for n in free if content[n][number]]
            if shares[part] > 0 and not counts[part][number] and holding:
                put(min(holding, key=lambda n: abs(content[n][number] - wanted[part][number])), part)
    scale = np.maximum(totals, 1)
    for n in sorted(free, key=lambda n: -len(stacks[n])):

        def off(part: int, n: int = n) -> float:
            after = counts.copy()
            after[part] += content[n]
            return float(np.square((after - wanted) / scale).sum())

        put(n, min((p for p in range(3) if shares[p] > 0), key=off))


def _deal(own: Sequence[int], *, parts: Parts, wanted: Sequence[float]) -> None:
    """Assigns images without a group to parts by the `wanted` counts: test, validation, then the rest to training.

    A part that wants any gets at least one, as long as there are more images than parts after it.
    """
    left = list(own)
    for part in (2, 1):
        if wanted[part] > 0:
            behind = sum(w > 0 for w in wanted[:part])
            count = min(max(1, round(wanted[part])), max(0, len(left) - behind))
            parts[part].extend(left[:count])
            left = left[count:]
    parts[0].extend(left)


def _by_class(of: Mapping[int, int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for position, number in of.items():
        found[number].append(position)
    return found
