"""Evaluates a trained classifier: scores, a table of every image's prediction, and a sheet of the worst mistakes."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor, nn

from ml_core.data.arrays.prepare import Prepared
from ml_core.data.loading.classification_data import ClassificationData
from ml_core.data.manifests.manifest import Manifest
from ml_core.imaging.picture_sheets import SURROUND, fitted, grey_picture, sheet, write_png
from ml_core.job.files import write_whole
from ml_core.metrics.bootstrap import over_groups
from ml_core.metrics.classification import ClassScores, confusion_of
from ml_core.models.logistic_regression import WEIGHT_DECAYS, Scale
from ml_core.runtime.training_loop import Context
from ml_core.specs import ClassifySpec

NOTHING = 0.02
"""An encoder that is better than grey values or chance by no more than this is not shown to have learnt anything."""
LISTED = 500
"""Mistakes that the results list one by one, the most confident first."""
CELLS = 50
"""Up to so many classes the results contain the whole confusion matrix; with more, only its table does."""
ROWS, COLUMNS = 8, 4
"""The size of the sheet of mistakes."""


@dataclass(frozen=True)
class Answers:
    """The predictions for every item with a label: `probabilities` (N, K), in the order of `data.positions`."""

    data: ClassificationData
    names: tuple[str, ...]
    groups: tuple[str, ...]
    probabilities: NDArray[np.float32]

    @classmethod
    @torch.inference_mode()
    def of(cls, linear: nn.Linear, x: Tensor, *, data: ClassificationData, manifest: Manifest) -> Answers:
        """`x` (N, D) are bare features."""
        items = [manifest.items[position] for position in data.positions.tolist()]
        return cls(
            data,
            tuple(item.name for item in items),
            # An image without a group is a group of its own; a space cannot begin a group's name.
            tuple(item.group or f" {position}" for item, position in zip(items, data.positions.tolist(), strict=True)),
            linear(x).softmax(dim=1).cpu().numpy(),
        )

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(N,): the probability of the predicted class."""
        return self.probabilities.max(axis=1)

    def mistakes(self) -> NDArray[np.int64]:
        """Places of the evaluated items whose predicted class is wrong, the most confident first."""
        places = self.data.places(self.data.evaluated)
        wrong = places[self.predicted[places] != self.data.labels[places]]
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]


def grey_accuracy(images: Prepared, data: ClassificationData) -> float:
    """The accuracy of the same regression on two numbers per image, grey mean and variance, at its best.

    Always standardised and trained to convergence, whatever the encoder's regression is: the most that grey values
    alone can do, read linearly.
    """
    x, y = torch.from_numpy(_grey_statistics(images, data)), data.labels
    train, validation, shown = (data.places(part) for part in ("train", "validation", data.evaluated))
    scaled = Scale.of(x[train])(x).double().numpy()
    regression = converged_regression(scaled[train], y[train], validation=(scaled[validation], y[validation]))
    return float(regression.score(scaled[shown], y[shown]))


def converged_regression(
    x: NDArray[np.float64], y: NDArray[np.int64], *, validation: tuple[NDArray[np.float64], NDArray[np.int64]]
) -> LogisticRegression:
    """Trained to convergence on features `x` (N, D) and classes `y` (N,), each of which is there.

    Of `WEIGHT_DECAYS` the one of least cross-entropy in `validation` is taken, as for the encoder's features.
    """
    classes = np.unique(y)
    # Of two classes scikit-learn keeps one vector, which is the difference of softmax's two: half the squares.
    scale = 2 if len(classes) == 2 else 1
    regressions = [
        LogisticRegression(C=scale / (decay * len(y)), tol=1e-6, max_iter=1000).fit(x, y) for decay in WEIGHT_DECAYS
    ]
    held_x, held_y = validation
    return min(regressions, key=lambda one: log_loss(held_y, one.predict_proba(held_x), labels=classes))


def _grey_statistics(images: Prepared, data: ClassificationData) -> NDArray[np.float32]:
    """(N, 2): mean and variance of each labelled image, greys in 0..1."""
    found = np.empty((len(data.positions), 2), np.float32)
    for row, position in enumerate(data.positions.tolist()):
        grey = images.array[position] / np.float32(255)
        found[row] = grey.mean(dtype=np.float64), grey.var(dtype=np.float64)
    return found


def report_results(
    context: Context[ClassifySpec],
    answers: Answers,
    *,
    images: Prepared,
    grey_accuracy: float,
    **figures: Any,
) -> None:
    """Reports the scores of the evaluated part; saves tables of predictions and confusion, and the mistakes."""
    data, reporter = answers.data, context.reporter
    places = data.places(data.evaluated)
    true, predicted = data.labels[places], answers.predicted[places]
    scores = ClassScores(confusion_of(true, predicted, classes=len(data.classes)))
    interval = over_groups(
        lambda sums: sums[:, 0] / sums[:, 1],
        counts=np.stack([true == predicted, np.ones_like(true)], axis=1).astype(np.int64),
        groups=[answers.groups[place] for place in places.tolist()],
        seed=context.spec.seed,
    )
    best_other = max(grey_accuracy, scores.chance)
    verdict = _verdict(scores.accuracy, grey=grey_accuracy, chance=scores.chance)
    if verdict:
        reporter.note(verdict, level="warning")
    mistakes = answers.mistakes()
    _keep_tables(context, answers, scores)
    _show_mistakes(context, answers, images, mistakes)
    reporter.results(
        accuracy=scores.accuracy,
        accuracy_interval=interval,
        chance=scores.chance,
        grey_accuracy=grey_accuracy,
        beyond_grey=scores.accuracy - best_other,
        shows_nothing=bool(verdict),
        verdict=verdict or None,
        part=data.evaluated,
        images=len(places),
        groups=data.split.groups,
        split=data.split.sentence,
        **figures,
        per_class=[
            {"label": label, "precision": p, "recall": r, "support": n}
            for label, p, r, n in zip(data.classes, scores.precision, scores.recall, scores.support, strict=True)
        ],
        confusion={"labels": list(data.classes), "counts": scores.counts.tolist()}
        if len(data.classes) <= CELLS
        else None,
        mistakes=[_mistake(answers, place) for place in mistakes[:LISTED].tolist()],
    )


def _verdict(accuracy: float, *, grey: float, chance: float) -> str:
    """A warning where an accuracy does not exceed that of grey values or chance by more than `NOTHING`; else empty."""
    # A difference of exactly two points is within two points, despite rounding.
    if accuracy - max(grey, chance) > NOTHING + 1e-9:
        return ""
    rival, value = (
        ("Grey mean and variance alone reach", grey)
        if grey >= chance
        else ("Always answering the largest class reaches", chance)
    )
    return (
        f"{rival} {100 * value:.1f} %, and the encoder's features {100 * accuracy:.1f} %. That is not more "
        "than 2 points better, so this task shows nothing about the encoder. Take classes that differ in more than "
        "brightness and contrast."
    )


def _mistake(answers: Answers, place: int) -> dict[str, Any]:
    classes = answers.data.classes
    return {
        "item": int(answers.data.positions[place]),
        "name": answers.names[place],
        "label": classes[int(answers.data.labels[place])],
        "predicted": classes[int(answers.predicted[place])],
        "confidence": float(answers.confidence[place]),
    }


def _keep_tables(context: Context[ClassifySpec], answers: Answers, scores: ClassScores) -> None:
    data = answers.data
    part_of = np.full(len(data.positions), "left out", dtype=object)
    for part in ("train", "validation", "test"):
        part_of[data.places(part)] = part
    rows: list[list[Any]] = [["item", "name", "part", "label", "predicted", "confidence"]]
    rows[0] += [f"p({label})" for label in data.classes]
    for place in range(len(data.positions)):
        told = _mistake(answers, place)
        rows.append(
            [told["item"], told["name"], part_of[place], told["label"], told["predicted"], f"{told['confidence']:.6f}"]
            + [f"{p:.6f}" for p in answers.probabilities[place].tolist()]
        )
    _keep_table(context, "predictions.csv", rows, about="every image's answer")
    rows = [["true \\ predicted", *data.classes]]
    rows += [[label, *counts] for label, counts in zip(data.classes, scores.counts.tolist(), strict=True)]
    _keep_table(context, "confusion.csv", rows, about=f"images of the {data.evaluated} part")


def _keep_table(context: Context[ClassifySpec], name: str, rows: list[list[Any]], *, about: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path = context.artifacts / name
    write_whole(path, lambda file: file.write(text.getvalue().encode()))
    context.reporter.artifact("table", path, about=about, rows=len(rows) - 1)


def _show_mistakes(
    context: Context[ClassifySpec], answers: Answers, images: Prepared, mistakes: NDArray[np.int64]
) -> None:
    """A sheet of the most confident mistakes, a row for each true class; none where there are no mistakes."""
    data = answers.data
    rows, captions, shown = [], [], []
    for number in sorted(set(data.labels[mistakes].tolist()))[:ROWS]:
        places = mistakes[data.labels[mistakes] == number][:COLUMNS].tolist()
        told = [_mistake(answers, place) for place in places]
        panels = [grey_picture(fitted(np.array(images.array[one["item"]]))) for one in told]
        empty = np.full((1, 1, 3), SURROUND, np.uint8)
        rows.append(panels + [empty] * (COLUMNS - len(panels)))
        taken = ", ".join(f"{one['predicted']} {one['confidence']:.2f}" for one in told)
        captions.append(f"{data.classes[number]}, taken for {taken}")
        shown += [one["item"] for one in told]
    if rows:
        headings = ("surest mistakes", *[""] * (COLUMNS - 1))
        pictures = sheet(rows, headings=headings, captions=captions)
        path = write_png(pictures.picture, context.artifacts / "mistakes.png")
        context.reporter.artifact("mistakes", path, items=shown, part=data.evaluated, panels=pictures.panels())
