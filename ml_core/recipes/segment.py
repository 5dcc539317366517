"""Segmentation: a decoder on an encoder, frozen or fine-tuned (paper, sections IV-B and V)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ml_core.data.loading.augmentation import augment
from ml_core.data.loading.segmentation_data import SegmentationData
from ml_core.data.loading.view_pairs import mean_and_deviation
from ml_core.errors import UserError
from ml_core.exchange import imagenet
from ml_core.imaging.picture_sheets import Sample, sample_sheet, write_png
from ml_core.metrics.segmentation import ConfusionMeter, foreground_iou_per_image, scores
from ml_core.models import casser_unet, encoders
from ml_core.models.feature_cache import FeatureCache
from ml_core.models.unet import CASSER, Segmenter, segmentation_loss
from ml_core.recipes.dataset_inputs import open_masked
from ml_core.recipes.segment_evaluation import HALF, evaluate, precision_recall, report_results
from ml_core.runtime import weights
from ml_core.runtime.sampler import ResumableSampler
from ml_core.runtime.training_loop import Best, Context, Loop, Stateful
from ml_core.runtime.weight_average import WeightAverage
from ml_core.specs import SegmentSpec
from ml_core.specs.architectures import STRIDE
from ml_core.specs.segment import REDUCTIONS

SHOWN = 4
"""Items on a sheet; the same ones each time."""
SHEETS = 20
"""About so many sheets in a run, by epochs, so that the same run shows the same pictures."""


def run(context: Context[SegmentSpec]) -> None:
    """Trains a segmenter and evaluates its best weights, or its last (`spec.judged`), on the test part.

    Without a test part it evaluates on the validation part, and the results name the part.
    """
    spec = context.spec
    data = open_masked(context)
    segmenter, origin = _segmenter(context, data)
    sampler = ResumableSampler(data.samples, batch_size=spec.batch_size, seed=spec.seed)
    total_steps = spec.epochs * sampler.steps_per_epoch
    _check_batch_norm(spec, segmenter, batch_size=sampler.batch_size)
    cache = _feature_cache(context, segmenter, data)

    optimizer = _optimizer(spec, segmenter)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=max(1, round(spec.patience / spec.validate_every))
    )
    average = WeightAverage(segmenter, keep=spec.average) if spec.average else None
    judged = average.module if average else segmenter
    best = Best()
    state: dict[str, Stateful] = {
        "network": segmenter.network,
        "optimizer": optimizer,
        "plateau": plateau,
        "best": best,
    }
    if average:
        state["average"] = average
    loop = Loop(
        context,
        total_steps=total_steps,
        steps_per_epoch=sampler.steps_per_epoch,
        state=state,
    )
    for step in loop:
        _set_rate(optimizer, spec, step=step, total_steps=total_steps)
        segmenter.train()
        samples = sampler.batch(step)
        if cache is None:
            grey, truth = augment(*data.batch(samples), policy=spec.augmentation)
            with context.autocast():
                logits = segmenter(grey)
        else:
            maps, truth = cache.batch(samples)
            with context.autocast():
                logits = segmenter.decode(maps)
        loss = segmentation_loss(logits, truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if average:
            average.update(step=step)

        loop.point("loss/train", loss)
        loop.point("learning_rate", optimizer.param_groups[0]["lr"])
        if loop.ends_epoch and (loop.epoch % spec.validate_every == 0 or loop.epoch == spec.epochs):
            validation = _validate(context, judged, data)
            for name, value in validation.points.items():
                loop.measure(name, value)
            best.offer(judged.network, score=validation.score, step=step)
            if spec.schedule == "plateau":
                plateau.step(validation.points["loss/validation"])
            if _shows(spec, epoch=loop.epoch):
                _show(context, data, validation, step=step)
            if 0 < spec.early_stop <= (step - best.step) // sampler.steps_per_epoch and step < total_steps:
                loop.finish(
                    f"Stopped early after epoch {loop.epoch:,}: no better validation score since epoch "
                    f"{best.step // sampler.steps_per_epoch:,}."
                )

    kept_step = best.step if spec.judged == "best" else loop.step
    if kept_step != loop.step:
        _keep_segmenter(context, judged, data, kinds=["segmenter_last"], origin=origin, step=loop.step, threshold=HALF)
        judged.network.load_state_dict(best.weights)
    curve = precision_recall(context, judged, data)
    chosen = curve.best_threshold() if curve is not None and spec.threshold == "validation" else None
    threshold = HALF if chosen is None else chosen
    # Where the last step is the best one, one file serves as both artifacts.
    kinds = ["segmenter_last", "segmenter"] if kept_step == loop.step else ["segmenter"]
    _keep_segmenter(context, judged, data, kinds=kinds, origin=origin, step=kept_step, threshold=threshold)
    report_results(
        context,
        judged,
        data,
        threshold=threshold,
        step=kept_step,
        epoch=kept_step // sampler.steps_per_epoch,
        best_step=best.step,
        best_epoch=best.step // sampler.steps_per_epoch,
    )


def _segmenter(context: Context[SegmentSpec], data: SegmentationData) -> tuple[Segmenter, str]:
    """The network on its device, and where its encoder's weights came from."""
    spec = context.spec
    encoder, source = _pretrained(context)
    if encoder is None:
        if spec.weights == "frozen":
            context.reporter.note("No pretrained encoder was given, so the encoder is trained from random weights.")
        mean, deviation = mean_and_deviation(data.intensity_sample())
        channels = casser_unet.CHANNELS if spec.encoder == CASSER else encoders.CHANNELS
        segmenter = Segmenter(
            architecture=spec.encoder,
            decoder=spec.decoder,
            width=spec.decoder_width,
            classes=data.classes,
            mean=[mean] * channels,
            deviation=[deviation] * channels,
            reduction=REDUCTIONS[spec.resolution],
        )
        return segmenter.to(memory_format=torch.channels_last).to(context.device), "random"
    segmenter = Segmenter(
        architecture=encoder.architecture,
        decoder=spec.decoder,
        width=spec.decoder_width,
        classes=data.classes,
        mean=encoder.mean,
        deviation=encoder.deviation,
        frozen=spec.weights == "frozen",
        reduction=REDUCTIONS[spec.resolution],
    )
    encoders.load_weights(segmenter.network.encoder, encoder.tensors, architecture=encoder.architecture, source=source)
    origin = str(encoder.facts.get("origin", "imported"))
    return segmenter.to(memory_format=torch.channels_last).to(context.device), origin


def _pretrained(context: Context[SegmentSpec]) -> tuple[weights.Encoder | None, str]:
    """The encoder to begin with, None where its weights are to be random, and what to call its file."""
    if context.inputs.slot("encoder") is not None:
        path = context.inputs.path("encoder")
        return weights.load_encoder(path), path.name
    if context.spec.initial == "imagenet":
        keep = context.inputs.prepared / "weights"
        return imagenet.imagenet(context.spec.encoder, path=None, keep=keep), "the ImageNet weights"
    return None, ""


def _feature_cache(context: Context[SegmentSpec], segmenter: Segmenter, data: SegmentationData) -> FeatureCache | None:
    """The feature cache, if the specification has it, the encoder is frozen and its features fit. Decided by the data
    and the specification alone, never by the free memory: the same run must be resumable on another machine."""
    allowed = context.spec.feature_cache
    if not allowed:
        return None
    if not segmenter.frozen:
        context.reporter.note("No features are kept: the encoder is trained, so they change at every step.")
        return None
    cache = FeatureCache(segmenter, data, autocast=context.autocast)
    needed = cache.most_bytes() / 1e9
    if needed > allowed:
        context.reporter.note(
            f"The features of all {data.samples:,} images in 16 forms take {needed:.1f} GB, more than the "
            f"{allowed:g} GB allowed: they are computed anew at every step, with turns by any angle.",
            level="warning",
        )
        return None
    context.reporter.note(
        f"The encoder sees each image in 16 forms and its features are kept: up to {needed:.1f} GB. Images are turned "
        "by quarters, not by any angle."
    )
    return cache


def _optimizer(spec: SegmentSpec, segmenter: Segmenter) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    # Fused: a quarter of the time on a CPU, where Adam is a third of a step of a small network.
    return kind(segmenter.trained(), lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)


def _check_batch_norm(spec: SegmentSpec, segmenter: Segmenter, *, batch_size: int) -> None:
    if batch_size == 1 and spec.image_size < 2 * STRIDE * segmenter.reduction and not segmenter.frozen:
        raise UserError(
            f"One image of {spec.image_size} px leaves one value per channel at the encoder's end, over which "
            f"BatchNorm has no statistics. Take a batch of 2 or more, or {2 * STRIDE * segmenter.reduction} px."
        )


@dataclass(frozen=True)
class Validation:
    """One pass over the validation part: the points to report, the score that the best weights are chosen by, and the
    predicted class maps of the items that sheets show, by position."""

    points: dict[str, float]
    score: float
    shown: dict[int, np.ndarray]
    per_image: dict[int, float | None]


def _validate(context: Context[SegmentSpec], segmenter: Segmenter, data: SegmentationData) -> Validation:
    """Predicts every validation item at its own size."""
    meter = ConfusionMeter(classes=data.classes)
    losses: list[Tensor] = []
    shown = {}
    for item in evaluate(context, segmenter, data, data.validation, threshold=HALF, keep=_pictured(data)):
        losses.append(item.loss)
        meter.add_counts(item.counts)
        if item.classes is not None:
            shown[item.position] = item.classes
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


def _pictured(data: SegmentationData) -> list[int]:
    """The positions of the items on sheets: spread over the validation part."""
    places = np.linspace(0, len(data.validation) - 1, min(SHOWN, len(data.validation))).round().astype(int)
    return [int(p) for p in data.validation[places]]


def _shows(spec: SegmentSpec, *, epoch: int) -> bool:
    """Whether the validation after `epoch` is put on a sheet."""
    number, last = math.ceil(epoch / spec.validate_every), math.ceil(spec.epochs / spec.validate_every)
    return number in (1, last) or number % math.ceil(last / SHEETS) == 0


def _show(context: Context[SegmentSpec], data: SegmentationData, validation: Validation, *, step: int) -> None:
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
    sheet = sample_sheet(samples, classes=data.classes)
    path = write_png(sheet.picture, context.artifacts / f"sample-{step:012d}.png")
    context.reporter.artifact(
        "sample",
        path,
        step=step,
        items=names,
        foreground_iou=validation.points.get("foreground_iou/validation"),
        panels=sheet.panels(),
    )


def _keep_segmenter(
    context: Context[SegmentSpec],
    segmenter: Segmenter,
    data: SegmentationData,
    *,
    kinds: Sequence[str],
    origin: str,
    step: int,
    threshold: float,
) -> None:
    """One file, announced as each of `kinds`."""
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
        "threshold": threshold,
        "framing": context.spec.framing,
        "split": context.spec.validation,
        "validation_share": context.spec.validation_share,
        "seed": context.spec.seed,
        "decoder": segmenter.decoder,
        "decoder_width": segmenter.width,
        "reduction": segmenter.reduction,
    }
    names = [f"{kind.replace('_', '-')}.safetensors" for kind in kinds]
    path = context.artifacts / names[-1]
    weights.save(path, segmenter.network.state_dict(), facts=facts)
    for kind, name in zip(kinds, names, strict=True):
        context.reporter.artifact(kind, path, name=name, **facts)


def _set_rate(optimizer: torch.optim.Optimizer, spec: SegmentSpec, *, step: int, total_steps: int) -> None:
    """Sets the rate of `step` (from 1). After the warm-up a rate that the plateau schedule lowers is not touched."""
    warming = round(spec.warmup * total_steps)
    rate = spec.learning_rate
    if spec.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * (step - 1) / total_steps)) / 2
    elif step > warming:
        return
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, step / max(warming, 1))
