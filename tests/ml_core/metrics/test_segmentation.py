"""Segmentation figures, held against torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex, MulticlassPrecision, MulticlassRecall

from ml_core.metrics.segmentation import (
    ConfusionMeter,
    confusion,
    foreground_iou_per_image,
    foreground_ious,
    mean_ious,
    per_image,
    scores,
)


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


def test_figures_per_image_are_means_over_the_images_that_have_any() -> None:
    prediction, truth = _maps(2)
    truth[2] = prediction[2] = 0  # Nothing there and nothing said: it has no foreground IoU.
    found = per_image(confusion(prediction, truth, classes=2).numpy())
    have = [0, 1, 3, 4]
    expected = np.mean([jaccard_score(truth[i].flatten(), prediction[i].flatten()) for i in have])
    assert found["foreground_iou_per_image"] == pytest.approx(expected)
    dice = [f1_score(truth[i].flatten(), prediction[i].flatten()) for i in have]
    assert found["dice_per_image"] == pytest.approx(np.mean(dice))
    assert found["background_iou_per_image"] == pytest.approx(
        np.mean([jaccard_score(1 - truth[i].flatten(), 1 - prediction[i].flatten()) for i in range(5)])
    )
    assert "floor_per_image" not in found


def test_a_foreground_that_is_only_imagined_counts_as_0_in_its_image() -> None:
    truth = torch.zeros(1, 4, 4, dtype=torch.long)
    prediction = truth.clone()
    prediction[0, 0, 0] = 1
    assert per_image(confusion(prediction, truth, classes=2).numpy())["foreground_iou_per_image"] == 0.0


@pytest.mark.parametrize("classes", [2, 4])
def test_many_matrices_at_once_have_the_figures_that_each_has_alone(classes: int) -> None:
    prediction, truth = _maps(classes)
    truth[0] = prediction[0] = 0
    truth[1], prediction[1] = 1, 1
    counts = confusion(prediction, truth, classes=classes).numpy()
    for together, name in ((foreground_ious(counts), "foreground_iou"), (mean_ious(counts), "mean_iou")):
        alone = [getattr(scores(matrix), name) for matrix in counts]
        assert np.allclose(together, [np.nan if value is None else value for value in alone], equal_nan=True)


def test_counts_that_were_taken_band_by_band_are_those_of_the_whole() -> None:
    prediction, truth = _maps(3)
    bands = [confusion(prediction[:, rows], truth[:, rows], classes=3) for rows in (slice(0, 5), slice(5, 16))]
    meter = ConfusionMeter(classes=3)
    meter.add_counts(bands[0] + bands[1])
    assert np.array_equal(meter.counts(), confusion(prediction, truth, classes=3).numpy())
