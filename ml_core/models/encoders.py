"""Builds encoders by name from a table; a new encoder needs one entry in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from ml_core.errors import UserError
from ml_core.models import attention_resnet, casser_unet

CHANNELS = 3

attention_resnet.register()


def _by_smp(name: str) -> Callable[[int], nn.Module]:
    # weights=None always: the library would otherwise download ImageNet's from the internet.
    return lambda channels: smp.encoders.get_encoder(name, in_channels=channels, depth=5, weights=None)


_BUILDERS: Mapping[str, Callable[[int], nn.Module]] = {
    "resnet18": _by_smp("resnet18"),
    "resnet50": _by_smp("resnet50"),
    "attention26": _by_smp("attention26"),
    "attention50": _by_smp("attention50"),
    "casser": lambda channels: casser_unet.encoder(channels=channels),
}

ARCHITECTURES = tuple(_BUILDERS)


def build(architecture: str, *, channels: int = CHANNELS) -> nn.Module:
    """A new encoder with random weights for images of `channels` channels, as segmentation_models_pytorch builds it.

    It maps images (B, channels, H, W), H and W multiples of 32, to a list of maps at 1, 1/2, ... 1/32 of the size;
    `out_channels` holds their depths. Raises UserError for a name that is not in the table.
    """
    if architecture not in _BUILDERS:
        raise UserError(f"There is no encoder called {architecture}; there are: {', '.join(ARCHITECTURES)}.")
    return _BUILDERS[architecture](channels)


def feature_size(encoder: nn.Module) -> int:
    """The depth D of the encoder's last map, and so the length of its feature vector."""
    return int(encoder.out_channels[-1])  # type: ignore[index]


def features(encoder: nn.Module, x: Tensor) -> Tensor:
    """The feature vectors (B, D) of images `x` (B, C, H, W): the last map's mean over its positions."""
    return encoder(x)[-1].mean(dim=(2, 3))


def load_weights(encoder: nn.Module, tensors: Mapping[str, Tensor], *, architecture: str, source: str) -> None:
    """Loads pretrained weights into `encoder`. Raises UserError unless all names and shapes match."""
    own = encoder.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)} and not {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    wrong += [f"{name}, which it does not have" for name in tensors if name not in own]
    if wrong:
        raise UserError(
            f"The weights in {source} do not fit a {architecture}; differences: {len(wrong):,}, first {wrong[0]}. "
            "Choose the architecture that they were made with."
        )
    with torch.no_grad():
        encoder.load_state_dict(dict(tensors))
