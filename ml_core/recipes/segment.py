"""Segmentation: a U-Net on an encoder, frozen or fine-tuned (paper, sections IV-B and V)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ml_core import weights
from ml_core.data.augmentation import augment
from ml_core.data.masked import Masked
from ml_core.data.pairs import tone_of
from ml_core.engine import Best, Context, Loop, ResumableSampler
from ml_core.metrics import ConfusionMeter, foreground_iou_per_image, scores
from ml_core.models import encoders
from ml_core.models.unet import Segmenter, class_map, segmentation_loss
from ml_core.pictures import Sample, sample_sheet, write_png
from ml_core.recipes.evaluation import predictions, say_results
from ml_core.recipes.sources import open_masked
from ml_core.reporting import UserError
from ml_core.specs import SegmentSpec

SHOWN = 4
"""Items on a sheet; the same ones each time."""
SHEETS = 20
"""About so many sheets in a run, by epochs, so that the same run shows the same pictures."""
THRESHOLD = 0.5


def run(context: Context[SegmentSpec]) -> None:
    """Trains a segmenter, keeps its weights of the best validation epoch, and judges those on the test part.

    A dataset without a test part is judged on the validation part, and the results say so.
    """
    spec = context.spec
    data = open_masked(context)
    segmenter, origin = _segmenter(context, data)
    sampler = ResumableSampler(data.samples, batch_size=spec.batch_size, seed=spec.seed)
    total_steps = spec.epochs * sampler.steps_per_epoch
    _check_batch_norm(spec, segmenter, batch_size=sampler.batch_size)

    # Fused: a quarter of the time on a CPU, where Adam is a third of a step of a small network.
    optimizer = torch.optim.Adam(segmenter.trained(), lr=spec.learning_rate, fused=True)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=spec.patience)
    best = Best()
    loop = Loop(
        context,
        total_steps=total_steps,
        steps_per_epoch=sampler.steps_per_epoch,
        state={"network": segmenter.network, "optimizer": optimizer, "plateau": plateau, "best": best},
    )
    for step in loop:
        if spec.schedule == "cosine":
            _set_rate(optimizer, spec.learning_rate * (1 + math.cos(math.pi * (step - 1) / total_steps)) / 2)
        segmenter.train()
        grey, truth = augment(*data.batch(sampler.batch(step)))
        with context.autocast():
            logits = segmenter(grey)
        loss = segmentation_loss(logits, truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

        loop.point("loss/train", loss)
        loop.point("learning_rate", optimizer.param_groups[0]["lr"])
        if loop.ends_epoch:
            validation = _validate(context, segmenter, data)
            for name, value in validation.points.items():
                loop.measure(name, value)
            best.offer(segmenter.network, score=validation.score, step=step)
            if spec.schedule == "plateau":
                plateau.step(validation.points["loss/validation"])
            if loop.epoch == 1 or loop.epoch % math.ceil(spec.epochs / SHEETS) == 0 or loop.epoch == spec.epochs:
                _show(context, data, validation, step=step)

    segmenter.network.load_state_dict(best.weights)
    _keep_segmenter(context, segmenter, data, origin=origin, step=best.step)
    say_results(
        context,
        segmenter,
        data,
        threshold=THRESHOLD,
        best_step=best.step,
        best_epoch=best.step // sampler.steps_per_epoch,
    )


def _segmenter(context: Context[SegmentSpec], data: Masked) -> tuple[Segmenter, str]:
    """The network on its device, and where its encoder's weights came from."""
    spec = context.spec
    if context.inputs.slot("encoder") is None:
        if spec.weights == "frozen":
            context.reporter.note("No pretrained encoder was given, so the encoder is trained from random weights.")
        mean, deviation = tone_of(data.tone_sample())
        segmenter = Segmenter(
            architecture=spec.encoder,
            classes=data.classes,
            mean=[mean] * encoders.CHANNELS,
            deviation=[deviation] * encoders.CHANNELS,
        )
        return segmenter.to(memory_format=torch.channels_last).to(context.device), "random"
    path = context.inputs.path("encoder")
    encoder = weights.load_encoder(path)
    segmenter = Segmenter(
        architecture=encoder.architecture,
        classes=data.classes,
        mean=list(encoder.mean),
        deviation=list(encoder.deviation),
        frozen=spec.weights == "frozen",
    )
    encoders.load_weights(
        segmenter.network.encoder, encoder.tensors, architecture=encoder.architecture, source=path.name
    )
    origin = str(encoder.facts.get("origin", "imported"))
    return segmenter.to(memory_format=torch.channels_last).to(context.device), origin


def _check_batch_norm(spec: SegmentSpec, segmenter: Segmenter, *, batch_size: int) -> None:
    if batch_size == 1 and spec.image_size == 32 and not segmenter.frozen:
        raise UserError(
            "One image of 32 px leaves one value per channel at the encoder's end, over which BatchNorm has no "
            "statistics. Take a batch of 2 or more, or 64 px."
        )


@dataclass(frozen=True)
class Validation:
    """One pass over the validation part: the points to say, the score that the best weights are chosen by, and the
    predicted class maps of the items that sheets show, by position."""

    points: dict[str, float]
    score: float
    shown: dict[int, np.ndarray]
    per_image: dict[int, float | None]


def _validate(context: Context[SegmentSpec], segmenter: Segmenter, data: Masked) -> Validation:
    """Predicts every validation item at its own size."""
    meter = ConfusionMeter(classes=data.classes)
    losses: list[Tensor] = []
    chosen = _shown(data)
    shown = {}
    for position, logits in predictions(context, segmenter, data, data.validation):
        truth = data.truth(position)
        losses.append(segmentation_loss(logits, truth))
        prediction = class_map(logits, threshold=THRESHOLD)
        meter.add(prediction, truth)
        if position in chosen:
            shown[position] = prediction[0].cpu().numpy()
    counts = meter.counts()
    found = scores(counts)
    points = {"loss/validation": float(torch.stack(losses).mean())}
    for name in ("foreground_iou", "background_iou", "mean_iou"):
        value = found.figures()[name]
        if value is not None:
            points[f"{name}/validation"] = value
    # Without foreground on this side there is no foreground IoU to choose by.
    score = found.foreground_iou if counts[:, 1:].any() else found.background_iou
    per_image = dict(zip(data.validation.tolist(), foreground_iou_per_image(counts), strict=True))
    return Validation(points=points, score=score or 0.0, shown=shown, per_image=per_image)


def _shown(data: Masked) -> list[int]:
    """The positions of the items on sheets: spread over the validation part."""
    places = np.linspace(0, len(data.validation) - 1, min(SHOWN, len(data.validation))).round().astype(int)
    return [int(p) for p in data.validation[places]]


def _show(context: Context[SegmentSpec], data: Masked, validation: Validation, *, step: int) -> None:
    samples, names = [], []
    for position, prediction in validation.shown.items():
        iou = validation.per_image[position]
        measured = "no foreground here" if iou is None else f"foreground IoU {iou:.3f}"
        names.append(data.name(position))
        samples.append(
            Sample(
                grey=data.grey(position),
                truth=data.truth(position)[0].cpu().numpy(),
                prediction=prediction,
                caption=f"{names[-1]}, {measured}",
            )
        )
    path = write_png(sample_sheet(samples, classes=data.classes), context.artifacts / f"sample-{step:012d}.png")
    context.reporter.artifact(
        "sample",
        path,
        step=step,
        items=names,
        foreground_iou=validation.points.get("foreground_iou/validation"),
    )


def _keep_segmenter(
    context: Context[SegmentSpec], segmenter: Segmenter, data: Masked, *, origin: str, step: int
) -> None:
    facts = {
        "architecture": segmenter.architecture,
        "channels": segmenter.mean.shape[1],
        "mean": segmenter.mean.flatten().tolist(),
        "deviation": segmenter.deviation.flatten().tolist(),
        "origin": origin,
        "step": step,
        "image_size": context.spec.image_size,
        "classes": data.values,
        "mask_layer": data.layer,
        "threshold": THRESHOLD,
        "framing": context.spec.framing,
        "decoder": "unet",
    }
    path = context.artifacts / "segmenter.safetensors"
    weights.save(path, segmenter.network.state_dict(), facts=facts)
    context.reporter.artifact("segmenter", path, **facts)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
