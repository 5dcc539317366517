"""How good a trained segmenter is: every item predicted at its own size, whatever size the network works at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ml_core.data.masked import Masked
from ml_core.engine import Context
from ml_core.metrics import ConfusionMeter, Scores, foreground_iou_per_image, scores
from ml_core.models.unet import Segmenter, class_map, predict_tiled
from ml_core.pictures import write_png
from ml_core.reporting import Stopped
from ml_core.specs import SegmentSpec

KEPT_PICTURES = 200
"""Predictions that are kept as pictures, spread over the items."""
LISTED = 500
"""Items that the results list one by one, worst first."""


def predictions(
    context: Context[SegmentSpec], segmenter: Segmenter, data: Masked, positions: NDArray[np.int64]
) -> Iterator[tuple[int, Tensor]]:
    """Each item's position and its logits (1, K, H, W) at its own size, in the order of `positions`.

    A resized item's logits are enlarged to its size; crops are joined from tiles that overlap by a quarter.
    """
    spec = context.spec
    segmenter.eval()

    def forward(grey: Tensor) -> Tensor:
        # Not around the generator: between two items its caller would compute under these as well.
        with torch.inference_mode(), context.autocast():
            return segmenter(grey).float()

    if spec.framing == "crops":
        for position in positions.tolist():
            grey = torch.from_numpy(data.grey(position)).to(context.device)[None].float() / 255
            logits = predict_tiled(
                forward, grey, tile=spec.image_size, overlap=spec.image_size // 4, batch_size=spec.batch_size
            )
            yield position, logits[None]
        return
    for first in range(0, len(positions), spec.batch_size):
        group = positions[first : first + spec.batch_size]
        for position, logits in zip(group.tolist(), forward(data.resized(group)), strict=True):
            yield position, functional.interpolate(logits[None], size=data.shape(position), mode="bilinear")


def say_results(
    context: Context[SegmentSpec],
    segmenter: Segmenter,
    data: Masked,
    *,
    threshold: float,
    best_step: int,
    best_epoch: int,
) -> None:
    """Judges the segmenter on the test part, or on the validation part where there is no test part.

    Says the results and keeps predicted class maps as artifacts. Raises Stopped where that is asked for: the training
    is done and in a checkpoint, so the next attempt begins here again.
    """
    part, positions = ("test", data.test) if len(data.test) else ("validation", data.validation)
    spread = np.linspace(0, len(positions) - 1, min(KEPT_PICTURES, len(positions))).round().astype(np.int64)
    kept = set(positions[spread].tolist())
    meter = ConfusionMeter(classes=data.classes)
    for done, (position, logits) in enumerate(predictions(context, segmenter, data, positions), start=1):
        prediction, truth = class_map(logits, threshold=threshold), data.truth(position)
        meter.add(prediction, truth)
        if position in kept:
            _keep_prediction(context, data, position, prediction, truth)
        context.reporter.progress(done, len(positions), "images", stage=f"Judging on the {part} images")
        if context.reporter.should_stop():
            raise Stopped("Stopped while judging; the trained network is in the last checkpoint.")
    counts = meter.counts()
    found = scores(counts)
    per_image = sorted(
        zip(positions.tolist(), foreground_iou_per_image(counts), strict=True),
        key=lambda pair: (pair[1] is None, pair[1]),
    )
    context.reporter.results(
        **found.figures(),
        part=part,
        images=len(positions),
        groups=data.split.groups,
        split=data.split.sentence,
        best_step=best_step,
        best_epoch=best_epoch,
        threshold=threshold,
        **_by_class(data, found),
        per_image=[
            {"item": position, "name": data.name(position), "foreground_iou": iou}
            for position, iou in per_image[:LISTED]
        ],
    )


def _by_class(data: Masked, found: Scores) -> dict[str, list[dict[str, float | int | None]]]:
    """One row per foreground class, by its value in the masks; nothing where there is only one."""
    if data.classes == 2:
        return {}
    rows = []
    for index, value in enumerate(data.values[1:], start=1):
        figures = {name: getattr(found, name)[index] for name in ("iou", "dice", "precision", "recall")}
        rows.append({"value": value, **figures})
    return {"per_class": rows}


def _keep_prediction(
    context: Context[SegmentSpec], data: Masked, position: int, prediction: Tensor, truth: Tensor
) -> None:
    """The class map as an 8-bit picture: 0 for background, then the classes in the order of `values`."""
    meter = ConfusionMeter(classes=data.classes)
    meter.add(prediction, truth)
    path = write_png(prediction[0].cpu().numpy(), context.artifacts / f"prediction-{position:07d}.png")
    context.reporter.artifact(
        "prediction",
        path,
        item=position,
        **data.source(position),
        foreground_iou=scores(meter.counts()).foreground_iou,
        classes=data.values,
    )
