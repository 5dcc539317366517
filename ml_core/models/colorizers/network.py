"""The colorization network of Zhang et al. 2016 (table 4), of any width: lightness to logits of 313 colours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.models.colorizers.colour_bins import BINS

FULL_WIDTH = 64
"""Channels of the first block as published; the others have 2, 4 and 8 times as many."""
SHRINKS = 4
"""Pixels along each side of a cell, for which one distribution is predicted."""
MULTIPLE = 8
"""The sides of an image must be multiples of this."""

# Block: widths of its input and of its 3x3 convolutions, in units of the first block's width (0: the lightness itself),
# then the stride of the last convolution and the dilation of all.
_BLOCKS: tuple[tuple[int, tuple[int, ...], int, int], ...] = (
    (0, (1, 1), 2, 1),
    (1, (2, 2), 2, 1),
    (2, (4, 4, 4), 2, 1),
    (4, (8, 8, 8), 1, 1),
    (8, (8, 8, 8), 1, 2),
    (8, (8, 8, 8), 1, 2),
    (8, (8, 8, 8), 1, 1),
)


_BEFORE_STRIDE = 4
"""The layers of the third block that come before its last convolution, which halves the size."""


class ColourNetwork(nn.Module):
    """L (B, 1, H, W) in 0..100 to the logits of 313 colours, (B, 313, H / 4, W / 4); H and W are multiples of 8.

    The modules have the names of the published state dict, so with `width` 64 its weights load without conversion.

    With `shortcuts`, which the publication does not have, blocks 5 to 7 are residual (He et al. 2016), and the third
    block's detail at a quarter of the size is added to the last (as later in Zhang et al. 2017). On a few hundred
    photographs the plain network learns hardly anything in minutes, this one does.
    """

    model1: nn.Sequential
    model2: nn.Sequential
    model3: nn.Sequential
    model4: nn.Sequential
    model5: nn.Sequential
    model6: nn.Sequential
    model7: nn.Sequential

    def __init__(self, *, width: int = FULL_WIDTH, shortcuts: bool = False) -> None:
        super().__init__()
        self.width = width
        self.shortcut = nn.Conv2d(4 * width, 4 * width, kernel_size=3, padding=1) if shortcuts else None
        for number, (channels, widths, stride, dilation) in enumerate(_BLOCKS, start=1):
            block = _block(channels * width or 1, [n * width for n in widths], stride=stride, dilation=dilation)
            self.add_module(f"model{number}", block)
        self.model8 = nn.Sequential(
            nn.ConvTranspose2d(8 * width, 4 * width, kernel_size=4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * width, 4 * width, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * width, 4 * width, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * width, BINS, kernel_size=1),
        )

    def logits(self, lightness: Tensor) -> Tensor:
        x = (lightness - 50) / 100
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        if self.shortcut is not None:
            return self._with_shortcuts(x, self.shortcut)
        for number in range(1, 9):
            x = getattr(self, f"model{number}")(x)
        return x

    def _with_shortcuts(self, x: Tensor, shortcut: nn.Conv2d) -> Tensor:
        detail = self.model3[:_BEFORE_STRIDE](self.model2(self.model1(x)))
        x = self.model4(self.model3[_BEFORE_STRIDE:](detail))
        for block in (self.model5, self.model6, self.model7):
            x = x + block(x)
        return self.model8[1:](self.model8[0](x) + shortcut(detail))


def cell_colours(lab: Tensor) -> Tensor:
    """The mean ab of each cell of the distribution: Lab (B, 3, H, W) to (B, 2, H / 4, W / 4)."""
    return functional.avg_pool2d(lab[:, 1:], SHRINKS)


def _block(channels: int, widths: list[int], *, stride: int, dilation: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place, width in enumerate(widths, start=1):
        step = stride if place == len(widths) else 1
        layers += [
            nn.Conv2d(channels, width, kernel_size=3, stride=step, padding=dilation, dilation=dilation),
            nn.ReLU(inplace=True),
        ]
        channels = width
    return nn.Sequential(*layers, nn.BatchNorm2d(channels))
