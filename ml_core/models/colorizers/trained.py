"""The colorizer that users train on their own photographs: the network of Zhang et al. 2016 at any width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.errors import UserError
from ml_core.models.colorizers.colour_bins import BINS, TEMPERATURE, annealed_mean, colour_bins
from ml_core.models.colorizers.network import SHRINKS, ColourNetwork
from ml_core.runtime import weights

ORIGIN = "trained"
ARCHITECTURE = "zhang2016"
SMALL_WIDTH = 16
"""A quarter of the published width: with shortcuts 2 million parameters."""


class TrainedColorizer(ColourNetwork):
    """L (B, 1, H, W) in 0..100 to ab (B, 2, H, W); H and W are multiples of 8.

    `bins` (313, 2) are the colours of the logits; the state dict contains them together with the weights.
    """

    bins: Tensor

    def __init__(self, *, width: int = SMALL_WIDTH, shortcuts: bool = True, temperature: float = TEMPERATURE) -> None:
        super().__init__(width=width, shortcuts=shortcuts)
        self.temperature = temperature
        self.register_buffer("bins", colour_bins())

    def begin(self, share: Tensor) -> None:
        """Initialises the weights for training, by the global generator; `share` (313,) is each colour's frequency.

        By He et al. 2015 for layers before a ReLU, and the last layer predicts `share` for any image. A network of
        this depth without shortcuts otherwise spends most of a short training on learning just these frequencies.
        """
        head = self.model8[-1]
        assert isinstance(head, nn.Conv2d)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose2d):  # of its 4x4 taps, 2x2 contribute to each pixel
                nn.init.normal_(module.weight, std=(2 / (4 * module.in_channels)) ** 0.5)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(head.weight, std=0.05)
        with torch.no_grad():
            assert head.bias is not None
            head.bias.copy_(share.log())

    def forward(self, lightness: Tensor) -> Tensor:
        return self.colours(self.logits(lightness))

    def colours(self, logits: Tensor) -> Tensor:
        """The predicted colour for `logits` (B, 313, h, w): their annealed mean, enlarged to (B, 2, 4 h, 4 w)."""
        ab = annealed_mean(logits, bins=self.bins, temperature=self.temperature)
        return functional.interpolate(ab, scale_factor=SHRINKS, mode="bilinear", align_corners=False)

    def facts(self) -> dict[str, Any]:
        """The facts that its file must contain for `trained_from` to rebuild it."""
        return {
            "origin": ORIGIN,
            "architecture": ARCHITECTURE,
            "width": self.width,
            "shortcuts": self.shortcut is not None,
            "bins": BINS,
            "temperature": self.temperature,
        }


def trained_from(path: Path) -> TrainedColorizer:
    """Loads the colorizer from the file, in evaluation mode. Raises UserError where the file contains none."""
    remedy = "Choose the result of a train_colorizer job; the published weights of eccv16 go with the method eccv16."
    try:
        found = weights.load(path)
    except UserError as error:
        raise UserError(f"{path.name} is no colorizer that was trained here, or is damaged. {remedy}") from error
    if found.facts.get("architecture") != ARCHITECTURE:
        raise UserError(f"{path.name} is no colorizer that was trained here. {remedy}")
    try:
        network = TrainedColorizer(
            width=int(found.facts["width"]),
            shortcuts=bool(found.facts["shortcuts"]),
            temperature=float(found.facts["temperature"]),
        )
        network.load_state_dict(found.tensors, strict=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"The colorizer in {path.name} does not fit what its file says of it. Train it again, or choose another."
        ) from error
    return network.eval()
