"""Two colorizers: from L to the ab planes of Lab.

`ECCV16` is the network of Zhang, Isola and Efros, "Colorful Image Colorization" (ECCV 2016), with the names and shapes
of its published state dict. `structured_ab` needs no weights: a fixed, smooth map from local statistics to ab.
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.blur import gaussian_blur
from ml_core.reporting import UserError, write_whole

ECCV16_ADDRESS = "https://colorizers.s3.us-east-2.amazonaws.com/colorization_release_v2-9b330a0b.pth"
ECCV16_HASH_PREFIX = "9b330a0b"
"""The first digits of the published file's SHA-256; its author put them into the file's name."""

BINS = 313
"""The ab cells of side 10 that lie in the gamut of sRGB (Zhang et al., section 2.1)."""

# Block: input channels, then for each 3x3 convolution (output channels, stride, dilation). Zhang et al., table 4.
_BLOCKS: tuple[tuple[int, tuple[tuple[int, int, int], ...]], ...] = (
    (1, ((64, 1, 1), (64, 2, 1))),
    (64, ((128, 1, 1), (128, 2, 1))),
    (128, ((256, 1, 1), (256, 1, 1), (256, 2, 1))),
    (256, ((512, 1, 1), (512, 1, 1), (512, 1, 1))),
    (512, ((512, 1, 2), (512, 1, 2), (512, 1, 2))),
    (512, ((512, 1, 2), (512, 1, 2), (512, 1, 2))),
    (512, ((512, 1, 1), (512, 1, 1), (512, 1, 1))),
)


class ECCV16(nn.Module):
    """L (B, 1, H, W) in 0..100 to ab (B, 2, H, W); H and W are multiples of 8.

    Each cell of the grid at a quarter of the size gets a distribution over 313 colours; a bias-free 1x1 convolution
    turns it into its mean colour (the published network's form of the annealed mean), which is enlarged by 4.
    """

    def __init__(self) -> None:
        super().__init__()
        for number, (channels, convolutions) in enumerate(_BLOCKS, start=1):
            self.add_module(f"model{number}", _block(channels, convolutions))
        self.model8 = nn.Sequential(
            nn.ConvTranspose2d(512, 256, kernel_size=4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, BINS, kernel_size=1),
        )
        self.model_out = nn.Conv2d(BINS, 2, kernel_size=1, bias=False)

    def forward(self, lightness: Tensor) -> Tensor:
        x = (lightness - 50) / 100
        for number in range(1, 9):
            x = getattr(self, f"model{number}")(x)
        ab = self.model_out(functional.softmax(x, dim=1))
        return functional.interpolate(ab, scale_factor=4, mode="bilinear", align_corners=False) * 110


def _block(channels: int, convolutions: tuple[tuple[int, int, int], ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, stride, dilation in convolutions:
        layers += [
            nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=dilation, dilation=dilation),
            nn.ReLU(inplace=True),
        ]
        channels = width
    return nn.Sequential(*layers, nn.BatchNorm2d(channels))


def eccv16_from(path: Path | None, *, keep: Path) -> ECCV16:
    """The published network in evaluation mode.

    `path` is the weights file that was brought in (the published .pth, or a safetensors file of the same tensors).
    Without it the published file is fetched once into the folder `keep`. Raises UserError with what to do.
    """
    if path is None:
        path = _fetch(keep / Path(ECCV16_ADDRESS).name)
    network = ECCV16()
    try:
        network.load_state_dict(_read_state(path), strict=True)
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


# The map of `structured_ab`: rows a and b over (fine mean, fine - coarse mean, coarse mean, fine contrast, coarse
# contrast). The numbers are chosen, not learned: incommensurate, so that no statistic alone fixes the colour, and small
# enough that a turns by about half a period over the usual range of each statistic, so that the map is gentle.
_PHASE = ((0.35, 1.9, -2.7, 1.3, -2.1), (0.25, -1.7, 2.3, -2.4, 1.1))
_OFFSET = (0.4, -0.9)
_ORIENTATION = ((0.9, -0.5), (0.4, 1.1))
"""How much the fine and the coarse orientation turn a and b."""
_STRENGTH = 55.0
"""The most that |a| or |b| reaches."""


def structured_ab(grey: Tensor) -> Tensor:
    """Colour from structure: `grey` (B, 1, H, W) in 0..1 to ab (B, 2, H, W).

    Each pixel's ab is a fixed smooth function of statistics of its neighbourhood at two scales: mean, standard
    deviation and the orientation of its edges. So membranes, organelles and cytoplasm get colours of their own,
    coherent in space. The grey value alone does not fix the colour; a look-up table of it could be inverted, which
    would make "match grey with colour" trivial. No randomness, no weights.
    """
    size = min(grey.shape[-2:])
    fine, coarse = max(size / 64, 1.0), max(size / 16, 2.0)
    # Orientation before statistics: it is taken from slopes, which smoothing first makes stable.
    turn = torch.stack([_orientation(grey, fine), _orientation(grey, coarse)], dim=1)  # (B, scale, 2, H, W)
    mean_fine, mean_coarse = _blur(grey, fine), _blur(grey, coarse)
    contrast_fine, contrast_coarse = _contrast(grey, mean_fine, fine), _contrast(grey, mean_coarse, coarse)
    statistics = torch.cat(
        [mean_fine, mean_fine - mean_coarse, mean_coarse, 4 * contrast_fine, 4 * contrast_coarse], dim=1
    )
    phase = torch.einsum("cs,bshw->bchw", grey.new_tensor(_PHASE) * 2, statistics)
    phase = phase + grey.new_tensor(_OFFSET).view(1, 2, 1, 1)
    phase = phase + torch.einsum("cs,bschw->bchw", grey.new_tensor(_ORIENTATION), turn)
    return _STRENGTH * _blur(torch.sin(phase), fine)


def _contrast(grey: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Local standard deviation. The small constant keeps the root from magnifying rounding in flat regions."""
    return ((_blur((grey - 0.5) ** 2, sigma) - (mean - 0.5) ** 2).clamp_min(0) + 1e-5).sqrt()


def _orientation(grey: Tensor, sigma: float) -> Tensor:
    """The double-angle vector of the structure tensor, (B, 2, H, W), of length 0 (no orientation) to 1.

    cos and sin of twice the angle: an edge has the same orientation from both sides, and nothing jumps at 180 degrees.
    """
    smooth = functional.pad(_blur(grey, sigma / 2), (1, 1, 1, 1), mode="replicate")
    dx = (smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]) / 2
    dy = (smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]) / 2
    xx, yy, xy = _blur(dx * dx, sigma), _blur(dy * dy, sigma), _blur(dx * dy, sigma)
    energy = xx + yy + 1e-4  # flat regions have no orientation rather than that of their noise
    return torch.cat([(xx - yy) / energy, 2 * xy / energy], dim=1)


def _blur(x: Tensor, sigma: float) -> Tensor:
    return gaussian_blur(x, sigma=sigma, radius=max(round(3 * sigma), 1), border="replicate")
