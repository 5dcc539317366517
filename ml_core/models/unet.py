"""Segmentation: a U-Net on an encoder, its loss, and prediction of whole images in overlapping tiles.

Ronneberger, Fischer and Brox, "U-Net" (MICCAI 2015); the decoder is that of segmentation_models_pytorch.
"""

from __future__ import annotations

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.reporting import UserError
from ml_core.weights import Weights

STRIDE = 32
"""The encoder halves the image five times."""


class Segmenter(nn.Module):
    """A U-Net that takes grey images (B, 1, H, W) in 0..1 and gives logits (B, C, H, W); H and W multiples of 32.

    C is 1 for one foreground class (a logit of foreground), else the number of classes with background. The grey
    channel is repeated and normalised with the mean and deviation that the encoder was trained with. A frozen encoder
    learns nothing: no gradient, and its BatchNorm statistics stay what they are, as it never leaves evaluation mode.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, *, architecture: str, classes: int, mean: list[float], deviation: list[float], frozen: bool = False
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.classes = classes
        self.frozen = frozen
        # No weights from a hub: the encoder's come from the registry, or are random.
        self.network = smp.Unet(
            encoder_name=architecture,
            encoder_weights=None,
            in_channels=len(mean),
            classes=1 if classes == 2 else classes,
        )
        # Facts of the encoder, kept beside the weights and not among them.
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
        """What the encoder sees: (B, channels, H, W)."""
        return (grey.expand(-1, self.mean.shape[1], -1, -1) - self.mean) / self.deviation

    def forward(self, grey: Tensor) -> Tensor:
        x = self.normalised(grey).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.network.encoder(x)
        return self.network.segmentation_head(self.network.decoder(features))


def probabilities_of(logits: Tensor) -> Tensor:
    """(B, K, H, W) logits to (B, C, H, W) probabilities, float32, background first, summing to 1 over the classes."""
    logits = logits.float()
    if logits.shape[1] == 1:
        foreground = logits.sigmoid()
        return torch.cat([1 - foreground, foreground], dim=1)
    return logits.softmax(dim=1)


def class_map(logits: Tensor, *, threshold: float = 0.5) -> Tensor:
    """(B, K, H, W) logits to (B, H, W) uint8 classes: the likeliest; with one foreground class, by `threshold`."""
    if logits.shape[1] == 1:
        return (logits[:, 0].float().sigmoid() > threshold).to(torch.uint8)
    return logits.argmax(dim=1).to(torch.uint8)


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice plus binary cross-entropy (paper, section V); with several classes, cross-entropy. A scalar, float32.

    `logits` (B, C, H, W) as `Segmenter` gives them, `truth` (B, H, W) classes. Dice is taken over the whole batch:
    by image it is undefined wherever a crop holds no foreground. With several classes it is the mean over the
    foreground classes that occur in the batch.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        target = truth[:, None].to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, target) + _dice_loss(logits.sigmoid(), target)
    target = functional.one_hot(truth.long(), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    cross_entropy = functional.cross_entropy(logits, truth.long())
    return cross_entropy + _dice_loss(logits.softmax(dim=1)[:, 1:], target[:, 1:])


def _dice_loss(shares: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice per class over the batch, averaged over the classes that occur (Milletari et al. 2016, eq. 3)."""
    axes = (0, 2, 3)
    occurs = (target.sum(axes) > 0).to(shares.dtype)
    dice = (2 * (shares * target).sum(axes) + 1e-6) / (shares.sum(axes) + target.sum(axes) + 1e-6)
    return ((1 - dice) * occurs).sum() / occurs.sum().clamp_min(1)


def predict_tiled(
    predict: Callable[[Tensor], Tensor], grey: Tensor, *, tile: int, overlap: int, batch_size: int
) -> Tensor:
    """Logits (K, H, W) of one image `grey` (1, H, W) at full resolution, seen in overlapping tiles.

    `predict` maps (B, 1, tile, tile) to (B, K, tile, tile). Each tile counts most at its centre and least at its
    border, where a network sees half of its context, so no seam shows. An image smaller than a tile is reflected out.
    """
    height, width = grey.shape[-2:]
    padded = _padded(grey, tile)
    weight = _tile_weight(tile, like=padded)
    places = [
        (top, left)
        for top in _starts(padded.shape[-2], tile=tile, overlap=overlap)
        for left in _starts(padded.shape[-1], tile=tile, overlap=overlap)
    ]
    total: Tensor | None = None
    weights = torch.zeros(padded.shape[-2:], device=grey.device)
    for first in range(0, len(places), batch_size):
        group = places[first : first + batch_size]
        answers = predict(torch.stack([padded[:, top : top + tile, left : left + tile] for top, left in group]))
        if total is None:
            total = torch.zeros((answers.shape[1], *padded.shape[-2:]), device=grey.device)
        for (top, left), answer in zip(group, answers, strict=True):
            total[:, top : top + tile, left : left + tile] += answer * weight
            weights[top : top + tile, left : left + tile] += weight
    assert total is not None, "an image has at least one tile"
    return (total / weights)[:, :height, :width]


def _starts(length: int, *, tile: int, overlap: int) -> list[int]:
    """Evenly spread beginnings of the fewest tiles that cover `length` and overlap by `overlap` or more."""
    count = 1 + -(-(length - tile) // (tile - overlap))
    return [round(i * (length - tile) / max(count - 1, 1)) for i in range(count)]


def _tile_weight(tile: int, *, like: Tensor) -> Tensor:
    """(tile, tile): a tent, 1 in the middle, small and above 0 at the border."""
    ramp = 1 - (torch.arange(tile, device=like.device, dtype=like.dtype) * 2 + 1 - tile).abs() / (tile + 1)
    return ramp[:, None] * ramp[None, :]


def _padded(grey: Tensor, tile: int) -> Tensor:
    """At least `tile` on both sides, reflected; repeated from the edge where a reflection would be too short."""
    below, right = max(tile - grey.shape[-2], 0), max(tile - grey.shape[-1], 0)
    if not below and not right:
        return grey
    short = below >= grey.shape[-2] or right >= grey.shape[-1]
    return functional.pad(grey[None], (0, right, 0, below), mode="replicate" if short else "reflect")[0]


def segmenter_from(weights: Weights, *, source: str) -> Segmenter:
    """A trained segmenter from the file `source`, in evaluation mode. Raises UserError where it is not one."""
    facts = weights.facts
    missing = [name for name in ("architecture", "classes", "mean", "deviation") if name not in facts]
    if missing:
        raise UserError(
            f"{source} does not say its {', '.join(missing)}, so it is not a segmentation model of a segment job. "
            "Choose the artifact segmenter of such a job."
        )
    segmenter = Segmenter(
        architecture=str(facts["architecture"]),
        classes=len(facts["classes"]),
        mean=[float(v) for v in facts["mean"]],
        deviation=[float(v) for v in facts["deviation"]],
    )
    try:
        segmenter.network.load_state_dict(weights.tensors)
    except RuntimeError as error:
        raise UserError(
            f"The weights in {source} do not fit a U-Net on {segmenter.architecture} with {segmenter.classes} classes. "
            "Choose the artifact segmenter of a segment job."
        ) from error
    return segmenter.eval()


def new_like(segmenter: Segmenter) -> Segmenter:
    """The same network with new random weights."""
    return Segmenter(
        architecture=segmenter.architecture,
        classes=segmenter.classes,
        mean=segmenter.mean.flatten().tolist(),
        deviation=segmenter.deviation.flatten().tolist(),
    )
