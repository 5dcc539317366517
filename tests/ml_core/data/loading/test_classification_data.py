"""Labels and the parts of a classification: every class in every part, no stack on two sides, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ml_core.data.loading.classification_data import ClassificationData, labelled
from ml_core.data.manifests.manifest import FileRef, Manifest, ManifestItem
from ml_core.errors import UserError


def _item(name: str, *, label: str = "", group: str = "", index: int = 0, split: str = "") -> ManifestItem:
    ref = FileRef(sha256=f"{hash((name, label, group)) % 16**8:08x}")
    return ManifestItem(name, ref, 8, 8, "uint8", 0, 255, label=label, group=group, index=index, split=split)


def _labelled(items: Sequence[ManifestItem], *, rule: str = "dataset", seed: int = 0) -> ClassificationData:
    return labelled(Manifest("set", tuple(items)), rule=rule, seed=seed)  # type: ignore[arg-type]


def _singles(**counts: int) -> list[ManifestItem]:
    return [_item(f"{label}{n}.png", label=label) for label, count in counts.items() for n in range(count)]


def _counts(data: ClassificationData) -> list[list[int]]:
    parts = [data.labels[data.places(part)] for part in ("train", "validation", "test")]
    return [np.bincount(part, minlength=len(data.classes)).tolist() for part in parts]


@pytest.mark.parametrize("rule", ["dataset", "random"])
def test_images_that_stand_alone_are_split_70_10_20_within_each_class(rule: str) -> None:
    data = _labelled(_singles(mouse=100, human=40), rule=rule)
    assert data.classes == ("human", "mouse")
    assert _counts(data) == [[28, 70], [4, 10], [8, 20]]
    everything = np.concatenate([data.split.train, data.split.validation, data.split.test])
    assert sorted(everything.tolist()) == list(range(140))


def test_another_seed_splits_otherwise_and_the_same_seed_the_same() -> None:
    items = _singles(mouse=50, human=50)
    first, again, other = (_labelled(items, seed=seed).split.test.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_stack_is_on_one_side_and_every_class_in_every_part() -> None:
    sizes = {"mouse": [40, 9, 9, 8, 30, 3], "human": [5, 60, 12, 7], "worm": [3, 4, 5]}
    items = [
        _item(f"{label}/{g}/{n}.png", label=label, group=f"{label}{g}", index=n)
        for label, groups in sizes.items()
        for g, size in enumerate(groups)
        for n in range(size)
    ]
    for seed in range(20):
        data = _labelled(items, seed=seed)
        sides = [{items[p].group for p in part} for part in (data.split.train, data.split.validation, data.split.test)]
        assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
        counts = np.array(_counts(data))
        assert counts.min() > 0
        assert 0.45 < counts[0].sum() / counts.sum() < 0.85
    assert "all images of a stack are in one part" in data.split.sentence


def test_stacks_of_several_classes_stay_whole_too() -> None:
    items = [_item(f"{g}/{n}.png", label="ab"[n % 2], group=f"stack{g}", index=n) for g in range(10) for n in range(6)]
    data = _labelled(items)
    assert _counts(data) == [[21, 21], [3, 3], [6, 6]]


def test_single_images_even_out_what_stacks_leave_uneven() -> None:
    items = [_item(f"s/{n}.png", label="a", group="s", index=n) for n in range(50)]
    items += [_item(f"{n}.png", label="a") for n in range(50)] + _singles(b=20)
    data = _labelled(items)
    assert _counts(data) == [[70, 14], [10, 2], [20, 4]]


def test_a_lone_stack_of_a_class_is_cut_into_blocks_with_a_gap() -> None:
    items = [_item(f"{c}/{n:03}.png", label=c, group=c, index=n) for c in ("mouse", "fly") for n in range(100)]
    data = _labelled(items)
    for number in range(2):
        train, test = (
            np.array([items[p].index for p in part if items[p].label == data.classes[number]])
            for part in (data.split.train, data.split.test)
        )
        assert np.abs(train[:, None] - test[None]).min() > 8
        assert len(test) == 20
    assert "Stacks of fly, mouse are too few for three parts" in data.split.sentence
    assert "gap of" in data.split.sentence


def test_the_items_own_split_is_kept_and_validation_taken_from_its_training_part() -> None:
    items = [
        _item(f"{split}/{label}{n}.png", label=label, split=split)
        for split, count in (("train", 16), ("test", 5))
        for label in "ab"
        for n in range(count)
    ]
    data = _labelled(items)
    assert _counts(data) == [[14, 14], [2, 2], [5, 5]]
    assert {items[p].split for p in data.split.test} == {"test"}
    assert data.evaluated == "test"


def test_where_no_test_part_is_given_the_validation_part_is_judged() -> None:
    items = [_item(f"{s}{c}{n}", label=c, split=s) for s in ("train", "validation") for c in "ab" for n in range(4)]
    data = _labelled(items)
    assert _counts(data) == [[4, 4], [4, 4], [0, 0]]
    assert data.evaluated == "validation"


def test_the_folder_is_the_label_where_no_image_has_one() -> None:
    items = [_item(f"cem/{c}/images/vol{n % 3}/{n}.png") for c in ("mouse", "human") for n in range(10)]
    data = _labelled(items)
    assert data.classes == ("human", "mouse")
    assert "folder" in data.sentences[0]


def test_images_without_a_label_are_left_out_and_counted() -> None:
    data = _labelled([*_singles(a=10, b=10), _item("x.png"), _item("y.png")])
    assert len(data.positions) == 20
    assert "2 of 22 images have no label" in data.sentences[0]


@pytest.mark.parametrize("rule", ["dataset", "random"])
def test_a_class_with_too_few_images_is_refused_by_its_name(rule: str) -> None:
    with pytest.raises(UserError, match=r"worm \(2 images, none for test\).*Add images"):
        _labelled(_singles(mouse=30, worm=2), rule=rule)


def test_a_class_that_the_own_split_leaves_out_of_a_part_is_refused_by_its_name() -> None:
    items = [_item(f"{s}{c}{n}", label=c, split=s) for s in ("train", "test") for c in "ab" for n in range(9)]
    items += [_item(f"w{n}", label="worm", split="test") for n in range(9)]
    with pytest.raises(UserError, match=r"worm \(9 images, none for training and validation\)"):
        _labelled(items)


def test_one_class_or_none_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"All images have the label mouse.*another class"):
        _labelled(_singles(mouse=10))
    with pytest.raises(UserError, match=r"No image of this dataset has a label.*folder of its own"):
        _labelled([_item(f"images/{n}.png") for n in range(10)])


@pytest.mark.slow
def test_a_hundred_thousand_images_are_split_within_seconds() -> None:
    items = [_item(f"{n}", label="abc"[n % 3], group=f"g{n // 40}" if n % 2 else "") for n in range(100_000)]
    data = _labelled(items)
    shares = [len(part) / 100_000 for part in (data.split.train, data.split.validation, data.split.test)]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.005)
