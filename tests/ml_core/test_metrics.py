"""Segmentation figures, held against torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex, MulticlassPrecision, MulticlassRecall

from ml_core.metrics import ConfusionMeter, confusion, foreground_iou_per_image, scores


def _maps(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(7)
    truth = torch.randint(0, classes, (5, 16, 20), generator=chance)
    wrong = torch.rand(5, 16, 20, generator=chance) < 0.3
    return torch.where(wrong, torch.randint(0, classes, (5, 16, 20), generator=chance), truth), truth


@pytest.mark.parametrize("classes", [2, 4])
def test_counts_are_those_of_scikit_learn_for_each_image(classes: int) -> None:
    prediction, truth = _maps(classes)
    counts = confusion(prediction, truth, classes=classes)
    for i in range(len(truth)):
        expected = confusion_matrix(truth[i].flatten(), prediction[i].flatten(), labels=list(range(classes)))
        assert np.array_equal(counts[i].numpy(), expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_pooled_figures_agree_with_torchmetrics(classes: int) -> None:
    prediction, truth = _maps(classes)
    found = scores(confusion(prediction, truth, classes=classes).numpy())
    for ours, theirs in (
        (found.iou, MulticlassJaccardIndex(classes, average=None)),
        (found.dice, MulticlassF1Score(classes, average=None)),
        (found.precision, MulticlassPrecision(classes, average=None)),
        (found.recall, MulticlassRecall(classes, average=None)),
    ):
        assert np.allclose(ours, theirs(prediction, truth).numpy(), atol=1e-6)
    assert found.mean_iou == pytest.approx(float(np.mean(found.iou)))
    assert found.foreground_iou == pytest.approx(float(np.mean(found.iou[1:])))


def test_each_image_has_its_own_foreground_iou() -> None:
    prediction, truth = _maps(2)
    found = foreground_iou_per_image(confusion(prediction, truth, classes=2).numpy())
    expected = [jaccard_score(t.flatten(), p.flatten()) for t, p in zip(truth, prediction, strict=True)]
    assert found == pytest.approx(expected)


def test_the_floor_is_what_predicting_nothing_scores() -> None:
    truth = torch.zeros(1, 10, 10, dtype=torch.long)
    truth[0, 0, :6] = 1
    found = scores(confusion(truth, truth, classes=2).numpy())
    nothing = scores(confusion(torch.zeros_like(truth), truth, classes=2).numpy())
    assert found.floor == pytest.approx(0.47)
    assert nothing.mean_iou == pytest.approx(0.47)
    assert nothing.foreground_iou == 0.0


def test_what_cannot_be_measured_is_none_and_not_zero() -> None:
    empty = torch.zeros(1, 4, 4, dtype=torch.long)
    found = scores(confusion(empty, empty, classes=2).numpy())
    assert found.foreground_iou is None
    assert found.precision[1] is None
    assert found.mean_iou == found.background_iou == found.floor == 1.0
    assert foreground_iou_per_image(confusion(empty, empty, classes=2).numpy()) == [None]


def test_the_meter_keeps_images_in_order_over_batches_of_any_size() -> None:
    prediction, truth = _maps(3)
    meter = ConfusionMeter(classes=3)
    for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
        meter.add(prediction[part], truth[part])
    assert np.array_equal(meter.counts(), confusion(prediction, truth, classes=3).numpy())


def test_an_empty_meter_has_no_images() -> None:
    counts = ConfusionMeter(classes=2).counts()
    assert counts.shape == (0, 2, 2)
    assert scores(counts).mean_iou is None
