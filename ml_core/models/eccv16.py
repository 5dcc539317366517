"""The published colorizer of Zhang, Isola and Efros, "Colorful Image Colorization" (ECCV 2016): `eccv16`."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.models.colour_bins import BINS
from ml_core.models.colour_network import SHRINKS, ColourNetwork
from ml_core.reporting import UserError, write_whole

ECCV16_ADDRESS = "https://colorizers.s3.us-east-2.amazonaws.com/colorization_release_v2-9b330a0b.pth"
ECCV16_HASH_PREFIX = "9b330a0b"
"""The first digits of the published file's SHA-256; its author put them into the file's name."""


class ECCV16(ColourNetwork):
    """L (B, 1, H, W) in 0..100 to ab (B, 2, H, W); H and W are multiples of 8.

    Each cell of the grid at a quarter of the size gets a distribution over 313 colours; a bias-free 1x1 convolution
    turns it into its mean colour (the published network's form of the annealed mean), which is enlarged by 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model_out = nn.Conv2d(BINS, 2, kernel_size=1, bias=False)

    def forward(self, lightness: Tensor) -> Tensor:
        ab = self.model_out(functional.softmax(self.logits(lightness), dim=1))
        return functional.interpolate(ab, scale_factor=SHRINKS, mode="bilinear", align_corners=False) * 110


def eccv16_from(path: Path | None, *, keep: Path) -> ECCV16:
    """The published network in evaluation mode.

    `path` is the weights file that was brought in (the published .pth, or a safetensors file of the same tensors).
    Without it the published file is fetched once into the folder `keep`. Raises UserError with what to do.
    """
    if path is None:
        path = _fetch(keep / Path(ECCV16_ADDRESS).name)
    network = ECCV16()
    state = _read_state(path)
    if "bins" in state:
        raise UserError(f"The colorizer in {path.name} was trained here. Choose the method trained for it.")
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"The colorizer file {path.name} does not hold the weights of eccv16 (Zhang et al. 2016). "
            f"Bring in the published file {Path(ECCV16_ADDRESS).name}."
        ) from error
    return network.eval()


def _read_state(path: Path) -> dict[str, Tensor]:
    """A pickle is opened only if it is the very file that was published, and then for tensors alone."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"The colorizer file {path} could not be read: {error.strerror}. Bring it in again.") from error
    if digest.startswith(ECCV16_HASH_PREFIX):
        return torch.load(path, map_location="cpu", weights_only=True)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"The colorizer file {path.name} is neither the published weights (SHA-256 {ECCV16_HASH_PREFIX}…, this one "
            f"is {digest[:8]}…) nor a safetensors file. Bring in {Path(ECCV16_ADDRESS).name}, or choose structured."
        ) from error


def _fetch(target: Path) -> Path:
    """Downloads the published weights to `target`, unless they are there."""
    if target.is_file():
        return target
    remedy = (
        f"Download {ECCV16_ADDRESS} on a machine with internet and bring it in as the job's colorizer weights, "
        "or choose the method structured, which needs none."
    )
    try:
        with urllib.request.urlopen(ECCV16_ADDRESS, timeout=30) as answer:
            body = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"The weights of eccv16 could not be downloaded: this server does not reach it. {remedy}"
        ) from error
    if not hashlib.sha256(body).hexdigest().startswith(ECCV16_HASH_PREFIX):
        raise UserError(f"The downloaded weights of eccv16 are not the published ones and were not kept. {remedy}")
    write_whole(target, lambda file: file.write(body))
    return target
