"""Precision, recall and IoU at every threshold, held against scikit-learn and against counting pixel by pixel."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, jaccard_score, precision_recall_curve

from ml_core.metrics.precision_recall import STEPS, PrecisionRecall, ProbabilityHistogram
from ml_core.models.unet import class_map


def _pixels(count: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(2)
    truth = (torch.rand(count, generator=chance) < 0.2).long()
    logits = torch.randn(count, generator=chance) * 2 + 2.5 * truth - 1
    return logits, truth


def _curve(probabilities: torch.Tensor, truth: torch.Tensor) -> PrecisionRecall:
    histogram = ProbabilityHistogram()
    for part in torch.arange(len(truth)).chunk(3):
        histogram.add(probabilities[part], truth[part])
    return histogram.curve()


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    logits, truth = _pixels()
    rounded_up = (logits.sigmoid() * STEPS).ceil() / STEPS
    curve = _curve(logits.sigmoid(), truth)
    precision, recall, thresholds = precision_recall_curve(truth, rounded_up)
    # Theirs is "at least v", ours "above i / 1024": on rounded probabilities, v = (i + 1) / 1024.
    places = np.rint(thresholds * STEPS).astype(int) - 1
    assert np.allclose(curve.precision[places], precision[:-1])
    assert np.allclose(curve.recall[places], recall[:-1])
    assert curve.average_precision() == pytest.approx(average_precision_score(truth, rounded_up))
    assert curve.average_precision() == pytest.approx(average_precision_score(truth, logits.sigmoid()), abs=1e-3)


def test_average_precision_counts_pixels_of_probability_0_too() -> None:
    probabilities, truth = torch.tensor([0.9, 0.0, 0.0, 0.4]), torch.tensor([1, 1, 0, 0])
    assert _curve(probabilities, truth).average_precision() == pytest.approx(
        average_precision_score(truth, (probabilities * STEPS).ceil())
    )


def test_the_iou_at_each_threshold_is_that_of_the_class_map_to_the_last_pixel() -> None:
    logits, truth = _pixels(500)
    # Some that lie on a threshold exactly, where above and at least differ.
    logits[:50] = (torch.arange(50) * 20 / 1024).logit().clamp(-30, 30)
    curve = _curve(logits.sigmoid(), truth)
    for threshold in (0.0, 20 / 1024, 0.25, 0.5, 640 / 1024, 1023 / 1024):
        predicted = class_map(logits.view(1, 1, 1, -1), threshold=threshold).flatten()
        assert curve.iou_at(threshold) == pytest.approx(jaccard_score(truth, predicted, zero_division=0.0))


def test_the_best_threshold_has_the_greatest_iou_and_of_equals_lies_nearest_to_a_half() -> None:
    logits, truth = _pixels()
    curve = _curve(logits.sigmoid(), truth)
    best = curve.best_threshold()
    assert best is not None
    tried = [jaccard_score(truth, logits.sigmoid() > t) for t in np.linspace(0.01, 0.99, 50)]
    assert curve.iou_at(best) >= max(tried)
    clear = _curve(torch.tensor([0.1, 0.9]), torch.tensor([0, 1]))
    assert clear.best_threshold() == 0.5


def test_without_foreground_nothing_is_chosen_or_measured() -> None:
    curve = _curve(torch.rand(10), torch.zeros(10, dtype=torch.long))
    assert curve.best_threshold() is curve.average_precision() is curve.iou_at(0.5) is None
    assert ProbabilityHistogram().curve().best_threshold() is None


def test_the_table_holds_one_row_per_threshold(tmp_path: Path) -> None:
    logits, truth = _pixels()
    curve = _curve(logits.sigmoid(), truth)
    with open(curve.write_csv(tmp_path / "table.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == STEPS
    assert list(rows[0]) == ["threshold", "precision", "recall", "foreground_iou"]
    assert float(rows[512]["threshold"]) == 0.5
    assert float(rows[512]["foreground_iou"]) == pytest.approx(curve.iou_at(0.5))
