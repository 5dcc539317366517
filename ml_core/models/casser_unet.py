"""The smaller U-Net of Casser et al., "Fast Mitochondria Detection for Connectomics" (2019, arXiv:1812.06024): the
baseline of the paper's Table V, and, by its encoder, the paper's `Encoder (Paper)`.

Built after the table below, which is that of the authors' own program (mpsych/mitochondria, `unet.py`):

| level | encoder: two 3x3 with ReLU | decoder: nearest 2x, 2x2 with ReLU, skip joined, two 3x3 with ReLU |
| --- | --- | --- |
| 1, whole size | 16 | 16, then 16 |
| 2 | 32 | 64, then 32 |
| 3 | 64 | 64, then 64 |
| 4 | 128, dropout 0.2 | 128, then 128 |
| 5, a sixteenth | 256, dropout 0.2 | |

then 3x3 to 2 channels with ReLU, and 1x1 to the logit. No BatchNorm. 1,958,533 parameters with one channel in and out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 1
WIDTHS = (16, 32, 64, 128, 256)
UP_WIDTHS = (16, 64, 64, 128)
"""Channels of the 2x2 convolutions that lead to levels 1 to 4. 64 at level 2 is the authors' own irregularity."""
DROPOUT = 0.2


def encoder(*, channels: int = CHANNELS) -> CasserEncoder:
    """The encoder with new random weights, for images of `channels` channels."""
    return CasserEncoder(channels=channels)


class CasserEncoder(nn.Module, EncoderMixin):
    """Images (B, channels, H, W), H and W multiples of 16, to maps at 1, 1/2, ... 1/16 of the size.

    As the encoders of segmentation_models_pytorch: `out_channels` holds the depths of the maps; but the first map, at
    whole size, is the first level's and not the image.
    """

    def __init__(self, *, channels: int = CHANNELS) -> None:
        super().__init__()
        self._depth = len(WIDTHS) - 1
        self._in_channels = channels
        self._out_channels = list(WIDTHS)
        self._output_stride = 16
        before = (channels, *WIDTHS[:-1])
        self.levels = nn.ModuleList(_two_convolutions(a, b) for a, b in zip(before, WIDTHS, strict=True))
        _he_normal(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for number, level in enumerate(self.levels):
            x = level(functional.max_pool2d(x, 2) if number else x)
            if number >= len(WIDTHS) - 2:
                # The skip connection takes the map after its dropout, as in the authors' program.
                x = functional.dropout(x, DROPOUT, training=self.training)
            maps.append(x)
        return maps

    def get_stages(self) -> dict[int, Sequence[nn.Module]]:
        return {2**number: [level] for number, level in enumerate(self.levels)}

    def make_dilated(self, output_stride: int) -> None:
        raise ValueError("Casser's network pools between its levels: there are no strides to replace by dilation.")


class CasserDecoder(nn.Module):
    """Decodes the maps of `CasserEncoder` to (B, 16, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        below = (*WIDTHS[1:4], WIDTHS[-1])
        self.up = nn.ModuleList(nn.Conv2d(a, b, 2) for a, b in zip(below, UP_WIDTHS, strict=True))
        self.levels = nn.ModuleList(_two_convolutions(a + b, a) for a, b in zip(WIDTHS[:4], UP_WIDTHS, strict=True))
        _he_normal(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = maps[-1]
        for number in reversed(range(4)):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            # "Same" padding of an even kernel: the odd pixel is added below and on the right (TensorFlow's rule).
            x = self.up[number](functional.pad(x, (0, 1, 0, 1))).relu()
            x = self.levels[number](torch.cat([maps[number], x], dim=1))
        return x


class CasserHead(nn.Sequential):
    """(B, 16, H, W) to logits (B, outputs, H, W), through two channels with ReLU; with more classes through as many
    channels as classes, since two are too few to separate them."""

    def __init__(self, *, outputs: int) -> None:
        between = max(2, outputs)
        super().__init__(nn.Conv2d(WIDTHS[0], between, 3, padding=1), nn.ReLU(), nn.Conv2d(between, outputs, 1))
        _he_normal(self)


class Casser(nn.Module):
    """The whole network in the parts of segmentation_models_pytorch: encoder, decoder, segmentation_head."""

    def __init__(self, *, channels: int = CHANNELS, classes: int = 1) -> None:
        super().__init__()
        self.encoder = CasserEncoder(channels=channels)
        self.decoder = CasserDecoder()
        self.segmentation_head = CasserHead(outputs=classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.segmentation_head(self.decoder(self.encoder(x)))
        return logits


def _two_convolutions(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
    )


def _he_normal(module: nn.Module) -> None:
    """Initialises a module by He et al. 2015, eq. 10: deviation sqrt(2 / inputs), biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            assert part.bias is not None
            nn.init.zeros_(part.bias)
