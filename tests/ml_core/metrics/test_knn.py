"""Weighted nearest neighbours are those of Wu et al., and looking at an encoder leaves it as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from ml_core.data.manifests.manifest import FileRef, ManifestItem
from ml_core.metrics.knn import NEIGHBOURS, TEMPERATURE, LabelledParts, knn_accuracy, labelled_parts, predicted


class Grey(nn.Module):
    """An encoder whose features are the mean grey value and its negative, behind everything that training changes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(3).eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        y = self.frozen(self.drop(self.norm(x)))
        return [x, torch.cat([y[:, :1], 1 - y[:, :1]], dim=1)]


def _item(number: int, label: str, group: str = "") -> ManifestItem:
    return ManifestItem(f"{number}", FileRef(f"{number}"), 8, 8, "uint8", 0, 255, label=label, group=group)


def _parts(labels: NDArray[np.int64], *, judged: int) -> LabelledParts:
    positions = np.arange(len(labels))
    cut = len(labels) - judged
    return LabelledParts(positions[:cut], positions[cut:], labels[:cut], labels[cut:], ("dark", "light"), "")


def _images(positions: NDArray[np.int64]) -> torch.Tensor:
    """Image n has the grey value of its parity, 0.1 or 0.9, with a little noise of its own."""
    noise = torch.stack([torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(int(p))) for p in positions])
    return 0.1 + 0.8 * torch.from_numpy(positions % 2).view(-1, 1, 1, 1) + noise / 20


def test_votes_are_counted_as_scikit_learn_counts_them() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (300,))
    reference = torch.randn(300, 12) + labels[:, None] / 2
    queries = torch.randn(700, 12) + torch.randint(0, 4, (700, 1)) / 2
    judge = KNeighborsClassifier(
        n_neighbors=NEIGHBOURS,
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: np.exp((1 - distance) / TEMPERATURE),
    )
    expected = judge.fit(reference.numpy(), labels.numpy()).predict(queries.numpy())
    found = predicted(queries, reference=reference, labels=labels, classes=4)
    assert len(np.unique(expected)) == 4
    assert (found.numpy() == expected).mean() > 0.998, "a tie to the last digit may fall either way"
    unweighted = judge.set_params(weights="uniform").predict(queries.numpy())
    assert (unweighted != expected).mean() > 0.02, "the weights are what is tested here"


def test_a_reference_smaller_than_the_neighbours_votes_as_a_whole() -> None:
    reference = torch.eye(3)
    found = predicted(torch.eye(3) + 0.1, reference=reference, labels=torch.tensor([0, 1, 1]), classes=2)
    assert found.tolist() == [0, 1, 1]


def test_an_encoder_that_tells_the_classes_apart_scores_1_and_wrong_labels_score_what_chance_does() -> None:
    truth = np.arange(120) % 2
    assert knn_accuracy(Grey(), parts=_parts(truth, judged=40), images=_images) == 1
    shuffled = np.random.default_rng(0).permutation(truth)
    assert 0.2 < knn_accuracy(Grey(), parts=_parts(shuffled, judged=40), images=_images) < 0.8


def test_looking_changes_neither_the_network_nor_chance() -> None:
    encoder = Grey()
    encoder.frozen.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(5)
    chance, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    knn_accuracy(encoder, parts=_parts(np.arange(90) % 2, judged=30), images=_images)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance)
    assert np.array_equal(np.random.get_state()[1], numpys)  # type: ignore[index]
    assert encoder.training
    assert encoder.norm.training
    assert not encoder.frozen.training, "what was in evaluation mode before stays so"


def test_the_parts_keep_a_stack_on_one_side_and_are_the_same_each_time() -> None:
    items = [_item(n, "human" if n % 60 < 30 else "fly", group=f"stack {n // 5}") for n in range(120)]
    items += [_item(n, "") for n in range(120, 150)]
    parts = labelled_parts(items, seed=3)
    assert parts is not None
    assert parts.classes == ("fly", "human")
    assert [parts.classes[n] for n in parts.query_labels] == [items[p].label for p in parts.queries]
    assert [parts.classes[n] for n in parts.reference_labels] == [items[p].label for p in parts.reference]
    sides = [{items[p].group for p in side} for side in (parts.reference, parts.queries)]
    assert not sides[0] & sides[1]
    assert len(parts.reference) + len(parts.queries) == 120
    again = labelled_parts(items, seed=3)
    assert again is not None
    assert np.array_equal(again.queries, parts.queries)


def test_of_many_images_a_number_that_is_spread_evenly_takes_part() -> None:
    items = [_item(n, f"{n % 3}") for n in range(1000)]
    parts = labelled_parts(items, seed=0, most=50)
    assert parts is not None
    assert len(parts.reference) == len(parts.queries) == 50
    assert parts.reference[0] < 20
    assert parts.reference[-1] > 980
    assert np.diff(parts.reference).max() < 60


@pytest.mark.parametrize("labels", [[], ["a"] * 20, ["", "a"] * 10, ["a"]])
def test_without_two_labels_there_is_nothing_to_judge_by(labels: list[str]) -> None:
    assert labelled_parts([_item(n, label) for n, label in enumerate(labels)], seed=0) is None


def test_the_floor_is_what_the_commonest_class_scores() -> None:
    parts = _parts(np.array([0, 0, 0, 1, 1, 0, 1, 1, 1, 1]), judged=5)
    assert parts.floor == pytest.approx(1 / 5)
    assert replace(parts, query_labels=np.zeros(5, np.int64)).floor == 1
