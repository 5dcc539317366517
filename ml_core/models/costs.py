"""Estimates the parameters, operations and memory of a job, a model or an encoder without running it.

Counting itself is done by `ml_core.runtime.profiler`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.errors import UserError
from ml_core.models import casser_unet, encoders
from ml_core.models.byol import BYOL
from ml_core.models.colorizers.eccv16 import ECCV16
from ml_core.models.colorizers.network import FULL_WIDTH
from ml_core.models.colorizers.trained import SMALL_WIDTH, TrainedColorizer
from ml_core.models.trained_model import EncoderModel
from ml_core.models.unet import Segmenter, segmentation_loss
from ml_core.runtime import profiler
from ml_core.runtime.device import choose_device, choose_precision
from ml_core.runtime.profiler import Memory
from ml_core.specs import ClassifySpec, ColorizeSpec, PretrainSpec, SegmentSpec, Spec, TrainColorizerSpec
from ml_core.specs.architectures import ENCODERS
from ml_core.specs.segment import REDUCTIONS

_ADAM = 2
"""Numbers that Adam stores per trained parameter."""


@dataclass(frozen=True)
class Cost:
    """The cost of one network at one image size. `multiply_adds` are those of one image's forward pass."""

    network: str
    parameters: int
    trained: int
    multiply_adds: int
    size: int
    memory: Memory | None = None
    """Memory of training with a batch of `batch` in `precision`; None where nothing is trained by gradients."""
    batch: int = 0
    precision: str = ""


def of_encoder(architecture: str, *, size: int = 224) -> Cost:
    """The cost of a bare encoder. Raises UserError for an unknown name."""
    return of_module(_encoder_model(architecture), network=_named(architecture), size=size)


def of_module(module: nn.Module, *, network: str, size: int) -> Cost:
    """The cost of a model that takes grey images (B, 1, H, W) or lightness. The module loses its weights."""
    with profiler.without_numbers(module):
        adds = profiler.multiply_adds(module, torch.empty(1, 1, size, size))
    return Cost(network, profiler.parameters(module), 0, adds, size)


def of_spec(spec: Spec) -> Cost:
    """The cost of the network that a job trains or runs, on this device. Raises UserError for kinds without one."""
    if isinstance(spec, PretrainSpec):
        return _pretrain(spec)
    if isinstance(spec, SegmentSpec):
        return _segment(spec)
    if isinstance(spec, TrainColorizerSpec):
        return _train_colorizer(spec)
    if isinstance(spec, ClassifySpec):
        # One linear layer is trained, on features that are computed once.
        return of_encoder(spec.architecture, size=spec.image_size)
    if isinstance(spec, ColorizeSpec) and spec.method == "eccv16":
        return of_module(ECCV16(), network="eccv16 (Zhang et al. 2016)", size=spec.image_size)
    raise UserError(f"A job of the kind {spec.kind} as specified has no network of its own to describe.")


def _pretrain(spec: PretrainSpec) -> Cost:
    size = spec.image_size
    network = BYOL(
        encoders.build(spec.encoder),
        hidden=spec.hidden_size,
        projection=spec.projection_size,
        batch_norm=spec.batch_norm,
    )
    with profiler.without_numbers(network):
        views = [torch.empty(spec.batch_size, encoders.CHANNELS, size, size) for _ in range(2)]
        return _trained(
            network,
            spec=spec,
            name=f"BYOL on {_named(spec.encoder)}, its slow copy included",
            adds=profiler.multiply_adds(network.encoder, views[0][:1]),
            size=size,
            forward=lambda: network(*views).loss,
        )


def _segment(spec: SegmentSpec) -> Cost:
    size = spec.image_size
    channels = casser_unet.CHANNELS if spec.encoder == "casser" else encoders.CHANNELS
    segmenter = Segmenter(
        architecture=spec.encoder,
        classes=2,
        mean=[0.5] * channels,
        deviation=[0.25] * channels,
        decoder=spec.decoder,
        width=spec.decoder_width,
        frozen=spec.weights == "frozen",
        reduction=REDUCTIONS[spec.resolution],
    )
    frozen = ", the encoder frozen" if segmenter.frozen else ""
    with profiler.without_numbers(segmenter):
        grey = torch.empty(spec.batch_size, 1, size, size)
        truth = torch.empty(spec.batch_size, size, size, dtype=torch.uint8)
        cost = _trained(
            segmenter,
            spec=spec,
            name=f"{type(segmenter.network).__name__} on {_named(spec.encoder)}{frozen}",
            adds=profiler.multiply_adds(segmenter, grey[:1]),
            size=size,
            forward=lambda: segmentation_loss(segmenter(grey), truth),
        )
    if spec.average and cost.memory:  # the running mean is a second set of weights
        return replace(cost, memory=replace(cost.memory, weights=2 * cost.memory.weights))
    return cost


def _train_colorizer(spec: TrainColorizerSpec) -> Cost:
    size = spec.crop_size
    network = TrainedColorizer(width=SMALL_WIDTH if spec.network == "small" else FULL_WIDTH)
    with profiler.without_numbers(network):
        lightness = torch.empty(spec.batch_size, 1, size, size)
        return _trained(
            network,
            spec=spec,
            name=f"Colorizer of Zhang et al. 2016, {spec.network}",
            adds=profiler.multiply_adds(network, lightness[:1]),
            size=size,
            forward=lambda: functional.log_softmax(network.logits(lightness).float(), dim=1).mean(),
        )


def _trained(
    module: nn.Module,
    *,
    spec: PretrainSpec | SegmentSpec | TrainColorizerSpec,
    name: str,
    adds: int,
    size: int,
    forward: Callable[[], Tensor],
) -> Cost:
    precision = choose_precision(choose_device(), spec.precision)
    module.train()
    return Cost(
        network=name,
        parameters=profiler.parameters(module),
        trained=profiler.parameters(module, trained=True),
        multiply_adds=adds,
        size=size,
        memory=profiler.training_memory(module, forward, copies=_ADAM, precision=precision),
        batch=spec.batch_size,
        precision=str(precision).removeprefix("torch."),
    )


def _encoder_model(architecture: str) -> EncoderModel:
    channels = casser_unet.CHANNELS if architecture == "casser" else encoders.CHANNELS
    encoder = encoders.build(architecture, channels=channels)
    return EncoderModel(encoder, mean=(0.5,) * channels, deviation=(0.25,) * channels)


def _named(architecture: str) -> str:
    return ENCODERS.get(architecture, architecture)
