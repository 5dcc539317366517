"""Loads the ImageNet weights that torchvision publishes into an encoder: the baseline of the paper's Table III."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ml_core.errors import UserError
from ml_core.exchange import state_dicts
from ml_core.runtime import weights
from ml_core.runtime.published_files import PublishedFile, state_dict_of

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's red, green and blue in 0..1, as torchvision's weights expect them."""


def _published(name: str) -> PublishedFile:
    stem = name.removesuffix(".pth")
    architecture, prefix = stem.split("-")
    return PublishedFile(
        network=f"{architecture} (ImageNet, torchvision)",
        address=f"https://download.pytorch.org/models/{name}",
        hash_prefix=prefix,
        bring_in="bring it in with `python -m ml_core convert` as an encoder",
        otherwise="start from random weights or another pretrained encoder",
    )


FILES: Mapping[str, PublishedFile] = {
    # V1 of both: the plain recipe, and what "ImageNet weights" meant when the paper was written. resnet50's V2 (2021)
    # came from a longer recipe; its features transfer differently.
    "resnet18": _published("resnet18-f37072fd.pth"),
    "resnet50": _published("resnet50-0676ba61.pth"),
}


def imagenet(architecture: str, *, path: Path | None, keep: Path) -> weights.Encoder:
    """The ImageNet weights of `architecture` as an encoder of 3 channels; a grey image is repeated over them.

    Read from the file `path` (the published one, or a safetensors file of the same tensors), else downloaded from the
    published address into the folder `keep`. The classification head is left out. Raises UserError with a remedy where
    there are none for this architecture, or where they cannot be downloaded.
    """
    if architecture not in FILES:
        raise UserError(
            f"Nobody publishes ImageNet weights for {architecture}. Take {' or '.join(FILES)}, start from random "
            "weights, or choose a pretrained encoder."
        )
    published = FILES[architecture]
    found = state_dicts.encoder_in(
        state_dict_of(published, path=path, keep=keep),
        source=path.name if path else published.name,
        architecture=architecture,
    )
    return weights.Encoder(
        tensors=found.tensors,
        architecture=architecture,
        channels=len(MEAN),
        mean=MEAN,
        deviation=DEVIATION,
        facts={"origin": "imagenet", "source": published.name},
    )
