"""Makes the two views of each micrograph that BYOL compares, on the device, with random parameters per sample.

Random numbers come from the device's global generator, whose state is part of a checkpoint. Views are float,
(B, 3, H, W), in 0..1; `normalised` converts them to the encoder's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ml_core.imaging.tensor_blur import gaussian_blur
from ml_core.imaging.tensor_lab import lab_to_rgb, lightness_of_grey

# Grill et al. 2020, appendix B, table 6; hue and saturation mean nothing to a grey image.
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
JITTER_SHARE = 0.8
BRIGHTNESS = 0.4
CONTRAST = 0.4
BLUR_SHARE = (1.0, 0.1)
"""The shares of the samples of the first and of the second view that are blurred."""
BLUR_SIGMA = (0.1, 2.0)
BLUR_KERNEL = 23 / 224
"""The kernel's length as a share of the image's."""
SOLARIZE_SHARE = (0.0, 0.2)

COLOUR_BLUR_SHARE = 0.5
"""Share of blurred samples in either view of colour+crop. BYOL's 1.0 and 0.1 suit views that are interchangeable; here
the first is always the grey one, and an encoder that never saw a sharp grey image would be of little use on
micrographs."""

CROP_MARGIN = 2
"""Crops are cut from arrays this many times as large as the view, so that a small crop still has enough pixels."""


def grey_and_colour(grey: Tensor, ab: Tensor, *, colour_space: Literal["lab", "rgb"]) -> tuple[Tensor, Tensor]:
    """The paper's two views: the micrograph, and the same in colour; same geometry.

    `grey` (B, H, W) uint8; `ab` (B, 2, h, w) uint8 = ab + 128, resized to (H, W). The first view is the grey value
    three times. The second is sRGB, or Lab with each channel scaled to 0..1: L / 100, (a + 128) / 255, (b + 128) / 255.
    """
    light = grey[:, None].float() / 255
    planes = functional.interpolate(ab.float(), size=light.shape[-2:], mode="bilinear", align_corners=False)
    return light.expand(-1, 3, -1, -1), _coloured(light, planes, colour_space=colour_space)


def cropped_grey_and_colour(
    grey: Tensor, ab: Tensor, *, size: int, colour_space: Literal["lab", "rgb"]
) -> tuple[Tensor, Tensor]:
    """The policy colour+crop: like `grey_and_colour`, but each view with its own crop, tone and sharpness.

    With the same geometry, as in the paper, the positions of edges suffice to match the views; so each is cropped. Two
    crops of one micrograph still share its histogram, by which they can be matched (Chen et al. 2020,
    arXiv:2002.05709, section 3.2), and the brightness of a micrograph depends more on the imaging session than on the
    cell; so brightness and contrast change as in BYOL. So does sharpness, as detector noise identifies an image too.
    No solarization: the colours were made for the original contrast. Only the lightness changes; a and b are kept.
    """
    light = grey[:, None].float() / 255
    first = _contrast_changed(crop(light, size=size))
    grid = _crop_grid(light, size=size)
    # The planes are small: sampled directly at the crop's grid they need not be resized to the image first.
    second = _coloured(_contrast_changed(_sampled(light, grid)), _sampled(ab.float(), grid), colour_space=colour_space)
    return first.expand(-1, 3, -1, -1), second


def crop(x: Tensor, *, size: int) -> Tensor:
    """A random crop of each sample of `x` (B, C, H, W), mirrored or not, resized to (B, C, size, size).

    Mirrored along both axes, as a micrograph has no up and down.
    """
    return _sampled(x, _crop_grid(x, size=size))


def augmented_pair(grey: Tensor, *, size: int) -> tuple[Tensor, Tensor]:
    """BYOL's own two views of `grey` (B, H, W) uint8: crop, mirror, jitter, blur, and for the second solarization."""
    light = grey[:, None].float() / 255
    first, second = (
        solarized(
            blurred(jittered(crop(light, size=size)), share=BLUR_SHARE[view]),
            share=SOLARIZE_SHARE[view],
        ).expand(-1, 3, -1, -1)
        for view in (0, 1)
    )
    return first, second


def jittered(x: Tensor, *, share: float = JITTER_SHARE) -> Tensor:
    """Changes brightness and contrast of a `share` of the samples of `x` (B, C, H, W), by random factors per sample."""
    chosen = _chosen(x, share)
    brightness = 1 + chosen * _uniform(len(x), -BRIGHTNESS, BRIGHTNESS, like=x).view(-1, 1, 1, 1)
    contrast = 1 + chosen * _uniform(len(x), -CONTRAST, CONTRAST, like=x).view(-1, 1, 1, 1)
    x = (x * brightness).clamp(0, 1)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * contrast + mean).clamp(0, 1)


def blurred(x: Tensor, *, share: float) -> Tensor:
    """Blurs a `share` of the samples of `x` (B, 1, H, W) by a Gaussian of a random width per sample."""
    count, _, height, width = x.shape
    radius = max(1, round(BLUR_KERNEL * min(height, width) / 2))
    sigma = _uniform(count, *BLUR_SIGMA, like=x)
    return torch.lerp(x, gaussian_blur(x, sigma=sigma, radius=radius), _chosen(x, share))


def solarized(x: Tensor, *, share: float) -> Tensor:
    """Solarizes a `share` of the samples of `x`: values above 0.5 are inverted."""
    return torch.lerp(x, torch.where(x >= 0.5, 1 - x, x), _chosen(x, share))


def normalised(x: Tensor, *, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """(x - mean) / deviation, channel by channel; `x` (B, C, H, W)."""
    return (x - x.new_tensor(mean).view(-1, 1, 1)) / x.new_tensor(deviation).view(-1, 1, 1)


def _coloured(light: Tensor, planes: Tensor, *, colour_space: Literal["lab", "rgb"]) -> Tensor:
    """Combines grey values (B, 1, H, W) in 0..1 and `planes` (B, 2, H, W) = ab + 128 to a view (B, 3, H, W) in 0..1."""
    lightness = lightness_of_grey(light)
    if colour_space == "lab":
        return torch.cat([lightness / 100, planes / 255], dim=1)
    return lab_to_rgb(torch.cat([lightness, planes - 128], dim=1))


def _contrast_changed(light: Tensor) -> Tensor:
    return blurred(jittered(light), share=COLOUR_BLUR_SHARE)


def _crop_grid(x: Tensor, *, size: int) -> Tensor:
    """Sampling grids (B, size, size, 2) of a random crop of each sample of `x` (B, C, H, W)."""
    count = x.shape[0]
    area = _uniform(count, *CROP_AREA, like=x)
    ratio = _uniform(count, *(math.log(value) for value in CROP_RATIO), like=x).exp()
    wide, high = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    mirror = torch.randint(0, 2, (2, count), device=x.device).to(x.dtype) * 2 - 1
    zero = torch.zeros_like(area)
    across = torch.stack([wide * mirror[0], zero, (1 - wide) * _uniform(count, -1, 1, like=x)], dim=1)
    down = torch.stack([zero, high * mirror[1], (1 - high) * _uniform(count, -1, 1, like=x)], dim=1)
    return functional.affine_grid(torch.stack([across, down], dim=1), [count, 1, size, size], align_corners=False)


def _sampled(x: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _uniform(count: int, low: float, high: float, *, like: Tensor) -> Tensor:
    return low + (high - low) * torch.rand(count, device=like.device, dtype=like.dtype)


def _chosen(x: Tensor, share: float) -> Tensor:
    """1 for a random `share` of the samples, else 0; shape (B, 1, 1, 1)."""
    return (torch.rand(len(x), device=x.device) < share).to(x.dtype).view(-1, 1, 1, 1)
