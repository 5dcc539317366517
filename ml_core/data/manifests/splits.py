"""Splits items into training, validation and test parts. Imports no torch.

Slices of one stack look alike: a network trained on slice 12 has nearly seen slice 13. So a group (stack, volume,
animal) stays in one part, and where there is only one stack, it is cut into blocks with a gap between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

GAP = 10
"""Slices left out between two blocks of a lone stack."""
PARTS = ("train", "validation", "test")


class Placed(Protocol):
    """The fields of an item that a split uses; `ml_core.data.manifests.manifest.ManifestItem` has them."""

    @property
    def group(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def split(self) -> str: ...


@dataclass(frozen=True)
class Split:
    """Positions in the manifest, sorted. `sentence` describes the rule; `groups` counts those of the evaluated part."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    sentence: str
    groups: int


def split(
    items: Sequence[Placed],
    *,
    chosen: Sequence[int] | NDArray[np.int64] | None = None,
    rule: Literal["dataset", "random"] = "dataset",
    validation: float = 0.25,
    test: float = 0.0,
    seed: int,
) -> Split:
    """Splits the items at the positions `chosen` (all, where None); `validation` and `test` are shares of them.

    `dataset` takes the dataset's own split where it has one, adding a validation part from its training part where
    that is missing; else it splits by groups, or a lone stack by blocks. `random` is what the paper did.
    """
    positions = np.arange(len(items)) if chosen is None else np.asarray(chosen, np.int64)
    shares = (1 - validation - test, validation, test)
    if rule == "random":
        parts = _random(positions, shares=shares, seed=seed)
        return as_split(items, parts=parts, sentence=random_sentence(items, positions=positions))
    own = {part: [p for p in positions if items[p].split == part] for part in PARTS}
    if not own["train"]:
        parts, sentence = _by_groups(items, positions, shares=shares, seed=seed)
        return as_split(items, parts=parts, sentence=sentence)
    if own["validation"]:
        return as_split(items, parts=[own[part] for part in PARTS], sentence="By the dataset's own split.")
    if own["test"] or validation:
        share = validation / (1 - test)
        learned, how = _by_groups(items, np.asarray(own["train"]), shares=(1 - share, share, 0.0), seed=seed)
        sentence = f"By the dataset's own split; validation images are taken from its training part: {_lower(how)}"
        return as_split(items, parts=[learned[0], learned[1], own["test"]], sentence=sentence)
    return as_split(items, parts=[own["train"], [], []], sentence="By the dataset's own split.")


def _by_groups(
    items: Sequence[Placed], positions: NDArray[np.int64], *, shares: Sequence[float], seed: int
) -> tuple[list[list[int]], str]:
    groups: dict[str, list[int]] = defaultdict(list)
    for position in positions:
        # An image without a group is a group by itself; a space cannot begin a group's name.
        groups[items[position].group or f" {position}"].append(int(position))
    if len(groups) == 1 and len(positions) > 1:
        return cut_into_blocks(items, positions=positions, shares=shares, seed=seed)
    rng = np.random.default_rng((seed, 1))
    order = [list(groups.values())[n] for n in rng.permutation(len(groups))]
    wanted = [share * len(positions) for share in shares]
    parts: list[list[int]] = [[], [], []]
    for part in (2, 1):
        while wanted[part] > 0 and len(order) > 1 and len(parts[part]) < wanted[part]:
            missing = wanted[part] - len(parts[part])
            if parts[part] and len(order[0]) > 2 * missing:
                break  # A large group would overshoot by more than is missing.
            parts[part] += order.pop(0)
    parts[0] = [p for group in order for p in group]
    alone = sum(len(group) == 1 for group in groups.values()) == len(groups)
    if alone:
        return parts, f"Images at random, as each stands alone (seed {seed})."
    return parts, f"By stack: all images of a stack are in one part ({len(groups)} groups, seed {seed})."


def cut_into_blocks(
    items: Sequence[Placed], *, positions: Sequence[int] | NDArray[np.int64], shares: Sequence[float], seed: int
) -> tuple[list[list[int]], str]:
    """Cuts one stack, the items at `positions`, into contiguous blocks; returns the three parts and a sentence.

    The gap is measured in slice numbers; in a short stack it is smaller. The sentence describes the rule.
    """
    ordered = sorted((int(p) for p in positions), key=lambda p: (items[p].index, p))
    if np.random.default_rng((seed, 2)).random() < 0.5:
        ordered.reverse()
    ends = [round(len(ordered) * sum(shares[: n + 1])) for n in range(3)]
    for part in (1, 2):  # Each requested part gets a slice, even of a very short stack.
        if shares[part] > 0:
            ends[part - 1] = max(1, min(ends[part - 1], len(ordered) - sum(s > 0 for s in shares[part:])))
    blocks = [ordered[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    kept = list(blocks)
    gap = GAP
    while gap >= 0:
        kept = _with_gap(items, blocks, gap=gap)
        # The gap may cost up to a quarter of the stack, and never more than half of a block.
        lost = len(ordered) - sum(map(len, kept))
        if lost <= len(ordered) / 4 and all(2 * len(k) >= len(b) for k, b in zip(kept, blocks, strict=True)):
            break
        gap -= 1
    group = items[ordered[0]].group
    sentence = f"All images are of one stack ({group}): contiguous blocks with a gap of {gap} slices between them."
    if gap < GAP:
        sentence = sentence[:-1] + f" ({GAP} would leave too few)."
    return kept, sentence


def _with_gap(items: Sequence[Placed], blocks: list[list[int]], *, gap: int) -> list[list[int]]:
    """Removes from the end of each block the slices within `gap` of the next block's first."""
    kept = [list(block) for block in blocks]
    for here, after in ((0, 1), (0, 2), (1, 2)):
        if kept[here] and kept[after]:
            first = items[kept[after][0]].index
            kept[here] = [p for p in kept[here] if abs(items[p].index - first) > gap]
    return kept


def _random(positions: NDArray[np.int64], *, shares: Sequence[float], seed: int) -> list[list[int]]:
    order = np.random.default_rng((seed, 3)).permutation(positions)
    counts = [max(1, round(share * len(order))) if share > 0 and len(order) > 1 else 0 for share in shares]
    held = counts[1] + counts[2]
    cut = [len(order) - held, len(order) - held + counts[1]]
    return [[int(p) for p in part] for part in np.split(order, cut)]


def random_sentence(items: Sequence[Placed], *, positions: NDArray[np.int64]) -> str:
    """The sentence for a random split, with a warning where neighbouring slices are in different parts."""
    sentence = "At random, as the paper did."
    if any(items[p].group for p in positions):
        sentence += " Neighbouring slices stand on both sides, so scores come out too high."
    return sentence


def as_split(items: Sequence[Placed], *, parts: Sequence[Sequence[int]], sentence: str) -> Split:
    """The `Split` of positions in the order of PARTS; counts the groups of the evaluated part."""
    train, validation, test = (np.sort(np.asarray(part, np.int64)) for part in parts)
    judged = test if len(test) else validation
    groups = len({items[p].group or f" {p}" for p in judged})
    return Split(train, validation, test, sentence, groups)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
