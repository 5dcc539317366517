"""Segmentation networks: an encoder with a decoder, their probabilities and class maps, and their loss.

Ronneberger, Fischer and Brox, "U-Net" (MICCAI 2015); Zhou et al., "UNet++" (2018); Kirillov et al., "Panoptic Feature
Pyramid Networks" (CVPR 2019). The decoders are those of segmentation_models_pytorch; Casser's network is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.errors import UserError
from ml_core.models import casser_unet, encoders
from ml_core.runtime.weights import Weights
from ml_core.specs.architectures import STRIDE

CASSER = "casser"
DECODERS: Mapping[str, Callable[..., nn.Module]] = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "fpn": smp.FPN,
}
_U_WIDTHS = {"full": {}, "half": {"decoder_channels": (128, 64, 32, 16, 8)}}
WIDTHS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "unet": _U_WIDTHS,
    "unetplusplus": _U_WIDTHS,
    "fpn": {"full": {}, "half": {"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 64}},
}
"""Arguments for the library's decoders by width; its own default is the full width."""


def network_of(*, architecture: str, decoder: str, width: str, channels: int, outputs: int) -> nn.Module:
    """A network with random weights, in the parts `encoder`, `decoder` and `segmentation_head`.

    Raises UserError for unknown names, and for a decoder on Casser's network, which has its own.
    """
    if architecture == CASSER:
        if (decoder, width) != ("unet", "full"):
            raise UserError("Casser's network has its own decoder: choose U-Net at full width, or another encoder.")
        return casser_unet.Casser(channels=channels, classes=outputs)
    if decoder not in DECODERS or width not in WIDTHS[decoder]:
        raise UserError(f"There is no decoder {decoder} of {width} width; there are: {', '.join(DECODERS)}.")
    if architecture not in encoders.ARCHITECTURES:
        raise UserError(f"There is no encoder called {architecture}; there are: {', '.join(encoders.ARCHITECTURES)}.")
    # No weights are downloaded: the encoder's come from the registry, or are random.
    return DECODERS[decoder](
        encoder_name=architecture,
        encoder_weights=None,
        in_channels=channels,
        classes=outputs,
        **WIDTHS[decoder][width],
    )


class Segmenter(nn.Module):
    """A network that takes grey images (B, 1, H, W) in 0..1 and gives logits (B, C, H, W); H and W multiples of 32.

    C is 1 for one foreground class (a logit of foreground), else the number of classes with background. The grey
    channel is repeated and normalised with the mean and deviation that the encoder was trained with. A frozen encoder
    is not trained: it gets no gradient, and its BatchNorm statistics do not change, as it stays in evaluation mode.

    With a `reduction` of n the network gets the mean of each n x n pixels, and its logits are enlarged bilinearly.
    """

    network: Any
    """A module with `encoder`, `decoder` and `segmentation_head`; the library that builds most has no types."""
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        architecture: str,
        classes: int,
        mean: Sequence[float],
        deviation: Sequence[float],
        decoder: str = "unet",
        width: str = "full",
        frozen: bool = False,
        reduction: int = 1,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.reduction = reduction
        self.decoder = decoder
        self.width = width
        self.classes = classes
        self.frozen = frozen
        self.network = network_of(
            architecture=architecture,
            decoder=decoder,
            width=width,
            channels=len(mean),
            outputs=1 if classes == 2 else classes,
        )
        # Facts of the encoder, stored with the weights but not in the state dict.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1), persistent=False)
        if frozen:
            self.network.encoder.requires_grad_(False)
            self.network.encoder.eval()

    def train(self, mode: bool = True) -> Segmenter:
        super().train(mode)
        if self.frozen:
            self.network.encoder.eval()
        return self

    def trained(self) -> list[nn.Parameter]:
        """The parameters that an optimizer may change."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def normalised(self, grey: Tensor) -> Tensor:
        """The encoder's input: (B, channels, H, W)."""
        return (grey.expand(-1, self.mean.shape[1], -1, -1) - self.mean) / self.deviation

    def encode(self, grey: Tensor) -> list[Tensor]:
        """The encoder's maps of `grey` (B, 1, H, W), from the image's size down; no gradient where it is frozen."""
        x = self.normalised(self._reduced(grey)).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps: list[Tensor] = self.network.encoder(x)
        return maps

    def _reduced(self, grey: Tensor) -> Tensor:
        if self.reduction == 1:
            return grey
        grey = functional.avg_pool2d(grey, self.reduction)
        below, right = (-side % STRIDE for side in grey.shape[-2:])
        return functional.pad(grey, (0, right, 0, below), mode="replicate") if below or right else grey

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Logits (B, C, H, W) from the encoder's maps; with a reduction, including the padding to its multiples."""
        logits: Tensor = self.network.segmentation_head(self.network.decoder(maps))
        if self.reduction == 1:
            return logits
        # In float32: between two bfloat16 values there is little to interpolate.
        return functional.interpolate(logits.float(), scale_factor=self.reduction, mode="bilinear")

    def forward(self, grey: Tensor) -> Tensor:
        height, width = grey.shape[-2:]
        return self.decode(self.encode(grey))[..., :height, :width]


def probabilities_of(logits: Tensor) -> Tensor:
    """Converts logits (B, K, H, W) to probabilities (B, C, H, W), float32, background first, summing to 1."""
    logits = logits.float()
    if logits.shape[1] == 1:
        foreground = logits.sigmoid()
        return torch.cat([1 - foreground, foreground], dim=1)
    return logits.softmax(dim=1)


def class_map(logits: Tensor, *, threshold: float = 0.5) -> Tensor:
    """Converts logits (B, K, H, W) to classes (B, H, W) uint8: the likeliest, or with one foreground class by
    `threshold`."""
    if logits.shape[1] == 1:
        return (logits[:, 0].float().sigmoid() > threshold).to(torch.uint8)
    return logits.argmax(dim=1).to(torch.uint8)


@dataclass(frozen=True)
class LossSums:
    """Sums over pixels from which the loss is computed: dice plus binary cross-entropy (paper, section V).

    With several classes, cross-entropy, and dice as the mean over the foreground classes that occur. The sums of an
    image's bands add up to those of the image, so the loss of a large image needs no more than a band at a time.
    """

    cross_entropy: Tensor
    """Summed over all pixels, (); the other sums are per foreground class, (K,)."""
    hit: Tensor
    predicted: Tensor
    true: Tensor
    pixels: int

    @classmethod
    def of(cls, logits: Tensor, truth: Tensor) -> LossSums:
        """Computes the sums of `logits` (B, C, H, W) from `Segmenter` and classes `truth` (B, H, W)."""
        logits = logits.float()
        axes = (0, 2, 3)
        if logits.shape[1] == 1:
            target = truth[:, None].to(logits.dtype)
            cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
            shares = logits.sigmoid()
        else:
            cross_entropy = functional.cross_entropy(logits, truth.long(), reduction="sum")
            shares = logits.softmax(dim=1)[:, 1:]
            target = functional.one_hot(truth.long(), logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits.dtype)
        hit, predicted, true = (shares * target).sum(axes), shares.sum(axes), target.sum(axes)
        return cls(cross_entropy, hit, predicted, true, pixels=truth.numel())

    def __add__(self, other: LossSums) -> LossSums:
        return LossSums(
            self.cross_entropy + other.cross_entropy,
            self.hit + other.hit,
            self.predicted + other.predicted,
            self.true + other.true,
            self.pixels + other.pixels,
        )

    def loss(self) -> Tensor:
        """The loss, a scalar. Dice is 1 - 2 hit / (predicted + true) per class (Milletari et al. 2016, eq. 3)."""
        occurs = (self.true > 0).to(self.hit.dtype)
        dice = (2 * self.hit + 1e-6) / (self.predicted + self.true + 1e-6)
        return self.cross_entropy / self.pixels + ((1 - dice) * occurs).sum() / occurs.sum().clamp_min(1)


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """The loss of a batch, a scalar, float32: `LossSums` over all of its pixels.

    Dice is taken over the whole batch: by image it is undefined wherever a crop holds no foreground.
    """
    return LossSums.of(logits, truth).loss()


def segmenter_from(weights: Weights, *, source: str) -> Segmenter:
    """Builds a trained segmenter from the file `source`, in evaluation mode. Raises UserError where it is not one."""
    facts = weights.facts
    missing = [name for name in ("architecture", "classes", "mean", "deviation") if name not in facts]
    if missing:
        raise UserError(
            f"{source} does not say its {', '.join(missing)}, so it is not a segmentation model of a segment job. "
            "Choose the artifact segmenter of such a job."
        )
    segmenter = Segmenter(
        architecture=str(facts["architecture"]),
        decoder=str(facts.get("decoder", "unet")),
        width=str(facts.get("decoder_width", "full")),
        classes=len(facts["classes"]),
        mean=[float(v) for v in facts["mean"]],
        deviation=[float(v) for v in facts["deviation"]],
        reduction=int(facts.get("reduction", 1)),
    )
    try:
        segmenter.network.load_state_dict(weights.tensors)
    except RuntimeError as error:
        raise UserError(
            f"The weights in {source} do not fit a {segmenter.decoder} on {segmenter.architecture} with "
            f"{segmenter.classes} classes. Choose the artifact segmenter of a segment job."
        ) from error
    return segmenter.eval()


def new_like(segmenter: Segmenter) -> Segmenter:
    """The same network with new random weights."""
    return Segmenter(
        architecture=segmenter.architecture,
        decoder=segmenter.decoder,
        width=segmenter.width,
        classes=segmenter.classes,
        mean=segmenter.mean.flatten().tolist(),
        deviation=segmenter.deviation.flatten().tolist(),
        reduction=segmenter.reduction,
    )
