"""Nothing that a network is judged on stands beside what it learned from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ml_core.data.manifests.manifest import FileRef, ManifestItem
from ml_core.data.manifests.splits import split


def items(*groups: str, splits: tuple[str, ...] = (), step: int = 1) -> list[ManifestItem]:
    counts: dict[str, int] = {}
    made = []
    for number, group in enumerate(groups):
        index = counts[group] = counts.get(group, -step) + step
        part = splits[number] if splits else ""
        made.append(
            ManifestItem(f"{number}", FileRef("0"), 8, 8, "uint8", 0, 255, group=group, index=index, split=part)
        )
    return made


@pytest.mark.parametrize("seed", range(5))
def test_a_stack_stays_on_one_side(seed):
    groups = [f"stack {n % 5}" for n in range(100)]
    found = split(items(*groups), validation=0.2, test=0.2, seed=seed)
    sides = [{groups[p] for p in part} for part in (found.train, found.validation, found.test)]
    assert sum(len(side) for side in sides) == 5
    assert all(sides)
    assert (found.groups, len(set().union(*sides))) == (1, 5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("step", [1, 4])
def test_a_lone_stack_is_cut_into_blocks_with_a_gap_of_ten_slices(seed, step):
    stack = items(*["s"] * 120, step=step)
    found = split(stack, validation=0.2, test=0.2, seed=seed)
    blocks = [[stack[p].index for p in part] for part in (found.train, found.validation, found.test)]
    for block in blocks:
        assert np.diff(block).max() == step, "contiguous"
    ordered = sorted(blocks)
    for before, after in itertools.pairwise(ordered):
        assert after[0] - before[-1] > 10
    assert "gap of 10 slices" in found.sentence
    assert found.groups == 1


@pytest.mark.parametrize("count", [2, 3, 8, 20])
def test_a_short_stack_gets_a_smaller_gap_and_says_so(count):
    found = split(items(*["s"] * count), seed=0)
    assert len(found.train) >= 1
    assert len(found.validation) >= 1
    assert len(found.train) + len(found.validation) >= 0.75 * count
    assert "would leave too few" in found.sentence


def test_the_datasets_own_split_is_kept_and_lacks_only_a_validation_part():
    own = ("train",) * 60 + ("test",) * 20
    found = split(items(*["a"] * 60, *["b"] * 20, splits=own), seed=0)
    assert list(found.test) == list(range(60, 80))
    assert set(found.train) | set(found.validation) <= set(range(60))
    assert len(found.validation) > 5
    assert found.sentence.startswith("By the dataset's own split")


def test_images_that_stand_alone_are_dealt_out_at_random():
    found = split(items(*[""] * 40), seed=1)
    assert (len(found.train), len(found.validation)) == (30, 10)
    assert found.groups == 10


def test_random_is_a_quarter_and_warns_where_slices_are_neighbours():
    found = split(items(*["s"] * 40), rule="random", seed=0)
    assert (len(found.train), len(found.validation)) == (30, 10)
    assert "too high" in found.sentence


@pytest.mark.parametrize("rule", ["dataset", "random"])
def test_the_same_seed_gives_the_same_split_and_another_seed_another(rule):
    many = items(*[""] * 40)
    first, again, other = (split(many, rule=rule, seed=seed) for seed in (3, 3, 4))
    assert (first.train == again.train).all()
    assert not np.array_equal(first.train, other.train)


def test_only_chosen_items_are_split():
    chosen = np.arange(10, 30)
    found = split(items(*[""] * 40), chosen=chosen, seed=0)
    assert set(found.train) | set(found.validation) == set(chosen)


@pytest.mark.parametrize("seed", range(4))
def test_the_gap_leaves_at_least_half_of_each_block(seed):
    found = split(items(*["s"] * 41), validation=0.15, test=0.15, seed=seed)
    assert min(len(found.validation), len(found.test)) >= 3
    assert "would leave too few" in found.sentence
