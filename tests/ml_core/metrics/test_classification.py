"""Figures of a confusion matrix: scikit-learn's, and None where there is nothing to measure."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from ml_core.metrics.classification import ClassScores, confusion_of


def test_counts_and_figures_are_scikit_learns() -> None:
    chance = np.random.default_rng(0)
    true = chance.integers(0, 4, 500)
    predicted = np.where(chance.random(500) < 0.6, true, chance.integers(0, 4, 500))
    counts = confusion_of(true, predicted, classes=4)
    assert np.array_equal(counts, metrics.confusion_matrix(true, predicted))
    scores = ClassScores(counts)
    precision, recall, _, support = metrics.precision_recall_fscore_support(true, predicted)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(true, predicted))
    assert scores.precision == pytest.approx(precision.tolist())
    assert scores.recall == pytest.approx(recall.tolist())
    assert scores.support == support.tolist()
    assert scores.chance == pytest.approx(max(np.bincount(true)) / 500)


def test_a_class_that_was_never_answered_has_no_precision_and_one_that_never_occurs_no_recall() -> None:
    scores = ClassScores(np.array([[3, 0, 1], [2, 0, 0], [0, 0, 0]]))
    assert scores.precision == [3 / 5, None, 0.0]
    assert scores.recall == [3 / 4, 0.0, None]
