"""Evaluates a trained segmenter: every item is predicted at its own size, whatever the network's input size.

Items are processed in bands of rows, so that memory does not grow with their size or their number of classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml_core.data.loading.segmentation_data import SegmentationData
from ml_core.errors import Stopped
from ml_core.imaging.picture_sheets import write_png
from ml_core.job.files import write_whole
from ml_core.metrics.bootstrap import over_groups
from ml_core.metrics.precision_recall import PrecisionRecall, ProbabilityHistogram
from ml_core.metrics.segmentation import (
    ConfusionMeter,
    Scores,
    confusion,
    foreground_ious,
    mean_ious,
    per_image,
    scores,
)
from ml_core.models.tiled_prediction import Predict, enlarged_bands, flipped, predict_bands
from ml_core.models.unet import LossSums, Segmenter, class_map
from ml_core.runtime.training_loop import Context
from ml_core.specs import SegmentSpec

HALF = 0.5
KEPT_PICTURES = 200
"""The number of predictions that are saved as pictures, spread over the items."""
LISTED = 500
"""Items that the results list one by one, worst first."""

Bands = Iterator[tuple[int, Tensor]]
"""Logits of one item from top to bottom: (first row, (K, rows, W))."""


@dataclass(frozen=True)
class Judged:
    """One item, predicted and counted."""

    position: int
    counts: Tensor
    """(1, C, C), on the device."""
    loss: Tensor
    """A scalar, on the device."""
    classes: NDArray[np.uint8] | None
    """The class map (H, W); None unless the item is in `keep`."""


def predictions(
    context: Context[SegmentSpec],
    segmenter: Segmenter,
    data: SegmentationData,
    positions: NDArray[np.int64],
    *,
    flips: bool,
) -> Iterator[tuple[int, Bands]]:
    """Each item's position and its logits at its own size, in the order of `positions`.

    A resized item's logits are enlarged to its size; crops are joined from tiles that overlap by a quarter of a crop.
    The bands of an item must be read before the next item is requested.
    """
    spec = context.spec
    segmenter.eval()

    def forward(grey: Tensor) -> Tensor:
        # Not around the whole generator: its caller's code between two items would run under these as well.
        with torch.inference_mode(), context.autocast():
            return segmenter(grey.float() / 255).float()

    predict: Predict = flipped(forward) if flips else forward
    if spec.framing == "crops":
        tile = spec.prediction_tile or spec.image_size
        at_once = max(1, spec.batch_size * spec.image_size**2 // tile**2)
        overlap = min(spec.image_size, tile) // 4
        for position in positions.tolist():
            grey = torch.from_numpy(data.grey(position)).to(context.device)[None]
            yield position, predict_bands(predict, grey, tile=tile, overlap=overlap, batch_size=at_once)
        return
    for first in range(0, len(positions), spec.batch_size):
        group = positions[first : first + spec.batch_size]
        for position, logits in zip(group.tolist(), predict(data.resized(group)), strict=True):
            yield position, enlarged_bands(logits, size=data.shape(position))


def evaluate(
    context: Context[SegmentSpec],
    segmenter: Segmenter,
    data: SegmentationData,
    positions: NDArray[np.int64],
    *,
    threshold: float,
    keep: Collection[int] = (),
    flips: bool = False,
    histogram: ProbabilityHistogram | None = None,
) -> Iterator[Judged]:
    """Predicts and counts the items at `positions`; those in `keep` come with their class maps.

    `histogram`, where given, takes in every pixel's probability of the one foreground class.
    """
    for position, bands in predictions(context, segmenter, data, positions, flips=flips):
        counts: list[Tensor] = []
        sums: list[LossSums] = []
        kept: list[Tensor] = []
        for first, logits in bands:
            truth = data.truth(position, slice(first, first + logits.shape[1]))
            prediction = class_map(logits[None], threshold=threshold)
            counts.append(confusion(prediction, truth, classes=data.classes))
            sums.append(LossSums.of(logits[None], truth))
            if histogram is not None:
                histogram.add(logits.sigmoid(), truth)
            if position in keep:
                kept.append(prediction[0].cpu())
        loss = sum(sums[1:], start=sums[0]).loss()
        classes = torch.cat(kept).numpy() if kept else None
        yield Judged(position, torch.stack(counts).sum(dim=0), loss, classes)


def precision_recall(
    context: Context[SegmentSpec], segmenter: Segmenter, data: SegmentationData
) -> PrecisionRecall | None:
    """Precision and recall on the validation part at every threshold, kept as a table; None with several classes."""
    if data.classes != 2:
        return None
    histogram = ProbabilityHistogram()
    run = evaluate(
        context,
        segmenter,
        data,
        data.validation,
        threshold=HALF,
        flips=context.spec.prediction_flips,
        histogram=histogram,
    )
    for done, _ in enumerate(run, start=1):
        _go_on(context, done, len(data.validation), stage="Finding the threshold on the validation images")
    curve = histogram.curve()
    path = curve.write_csv(context.artifacts / "precision-recall.csv")
    context.reporter.artifact("table", path, title="Precision and recall by threshold", part="validation")
    return curve


def report_results(
    context: Context[SegmentSpec],
    segmenter: Segmenter,
    data: SegmentationData,
    *,
    threshold: float,
    step: int,
    epoch: int,
    best_step: int,
    best_epoch: int,
) -> None:
    """Evaluates the segmenter, with the weights of `step`, on the test part, or without one on the validation part.

    Reports the results and saves predicted class maps as artifacts. Raises Stopped on request: the training is done
    and in a checkpoint, so the next attempt begins here again.
    """
    part, positions = ("test", data.test) if len(data.test) else ("validation", data.validation)
    spread = np.linspace(0, len(positions) - 1, min(KEPT_PICTURES, len(positions))).round().astype(np.int64)
    meter = ConfusionMeter(classes=data.classes)
    histogram = ProbabilityHistogram() if data.classes == 2 else None
    run = evaluate(
        context,
        segmenter,
        data,
        positions,
        threshold=threshold,
        keep=frozenset(positions[spread].tolist()),
        flips=context.spec.prediction_flips,
        histogram=histogram,
    )
    for done, item in enumerate(run, start=1):
        meter.add_counts(item.counts)
        if item.classes is not None:
            _keep_prediction(context, data, item)
        _go_on(context, done, len(positions), stage=f"Judging on the {part} images")
    counts = meter.counts()
    found = scores(counts)
    context.reporter.results(
        **found.figures(),
        **per_image(counts),
        **_intervals(context, data, positions, counts),
        **_by_threshold(histogram),
        part=part,
        images=len(positions),
        groups=data.split.groups,
        split=data.split.sentence,
        judged_step=step,
        judged_epoch=epoch,
        best_step=best_step,
        best_epoch=best_epoch,
        threshold=threshold,
        **_by_class(data, found),
        per_image=_table(context, data, positions, counts)[:LISTED],
    )


def _go_on(context: Context[SegmentSpec], done: int, total: int, *, stage: str) -> None:
    context.reporter.progress(done, total, "images", stage=stage)
    if context.reporter.should_stop():
        raise Stopped("Stopped while judging; the trained network is in the last checkpoint.")


def _intervals(
    context: Context[SegmentSpec], data: SegmentationData, positions: NDArray[np.int64], counts: NDArray[np.int64]
) -> dict[str, list[float]]:
    """95 % intervals over groups; nothing where there are too few for any."""
    groups = [data.group(position) for position in positions.tolist()]
    found = {
        "foreground_iou_interval": over_groups(foreground_ious, counts=counts, groups=groups, seed=context.spec.seed),
        "mean_iou_interval": over_groups(mean_ious, counts=counts, groups=groups, seed=context.spec.seed),
    }
    return {name: interval for name, interval in found.items() if interval is not None}


def _by_threshold(histogram: ProbabilityHistogram | None) -> dict[str, float | None]:
    """The scores that need probabilities rather than class maps; empty with several classes."""
    if histogram is None:
        return {}
    curve = histogram.curve()
    return {"average_precision": curve.average_precision(), "foreground_iou_at_half": curve.iou_at(HALF)}


def _by_class(data: SegmentationData, found: Scores) -> dict[str, list[dict[str, float | int | None]]]:
    """One row per foreground class, by its value in the masks; nothing where there is only one."""
    if data.classes == 2:
        return {}
    rows = []
    for index, value in enumerate(data.values[1:], start=1):
        figures = {name: getattr(found, name)[index] for name in ("iou", "dice", "precision", "recall")}
        rows.append({"value": value, **figures})
    return {"per_class": rows}


def _table(
    context: Context[SegmentSpec], data: SegmentationData, positions: NDArray[np.int64], counts: NDArray[np.int64]
) -> list[dict[str, float | int | str | None]]:
    """One row per item, worst first and those without foreground last, kept as a table of all items as well."""
    rows: list[dict[str, float | int | str | None]] = []
    names = ("foreground_iou", "dice", "precision", "recall")
    text = io.StringIO(newline="")
    out = csv.writer(text)
    out.writerow(["name", "group", *names])
    for position, matrix in zip(positions.tolist(), counts, strict=True):
        figures = scores(matrix).figures()
        out.writerow([data.name(position), data.group(position).strip(), *(figures[name] for name in names)])
        rows.append({"item": position, "name": data.name(position), "foreground_iou": figures["foreground_iou"]})
    path = context.artifacts / "per-image.csv"
    write_whole(path, lambda file: file.write(text.getvalue().encode()))
    context.reporter.artifact("table", path, title="Figures of each image")
    return sorted(rows, key=lambda row: (row["foreground_iou"] is None, row["foreground_iou"]))


def _keep_prediction(context: Context[SegmentSpec], data: SegmentationData, item: Judged) -> None:
    """The class map as an 8-bit picture: 0 for background, then the classes in the order of `values`."""
    assert item.classes is not None, "only class maps that were kept are written"
    path = write_png(item.classes, context.artifacts / f"prediction-{item.position:07d}.png")
    context.reporter.artifact(
        "prediction",
        path,
        item=item.position,
        **data.source(item.position),
        foreground_iou=scores(item.counts.cpu().numpy()).foreground_iou,
        classes=data.values,
    )
