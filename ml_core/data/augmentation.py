"""Augmentation of micrographs together with their masks: on the device, drawn anew for each sample of a batch.

All chance comes from the device's global generator, whose state is part of a checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ml_core.blur import gaussian_blur

BLUR_SHARE = 0.3
"""How many of the samples are blurred."""
BLUR_MOST = 1.2
"""The greatest standard deviation of the blur, in pixels."""
BRIGHTNESS = 0.15
CONTRAST = 0.2


def augment(grey: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Flips, turns by any angle, blur, brightness and contrast (paper, section V: flips, rotation, blur).

    `grey` (B, 1, H, W) in 0..1 and `masks` (B, H, W) integers get the same geometry; masks take the nearest pixel, so
    no value is made up. What a rotation uncovers is filled by reflection. Returns tensors of the same shapes.
    """
    count = grey.shape[0]
    grid = functional.affine_grid(_turns(count, like=grey), list(grey.shape), align_corners=False)
    grey = functional.grid_sample(grey, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    turned = functional.grid_sample(
        masks[:, None].to(grey.dtype), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return _tone(_blurred(grey)), turned[:, 0].round().to(masks.dtype)


def _turns(count: int, *, like: Tensor) -> Tensor:
    """(B, 2, 3) affine maps: a rotation by any angle and, for half of the samples, a mirror.

    With rotation by half a turn among the angles, one mirror axis makes all flips.
    """
    angle = torch.rand(count, device=like.device) * (2 * torch.pi)
    mirror = (torch.rand(count, device=like.device) < 0.5).to(like.dtype) * 2 - 1
    cos, sin = angle.cos(), angle.sin()
    zero = torch.zeros_like(cos)
    rows = [torch.stack([mirror * cos, -sin, zero], dim=1), torch.stack([mirror * sin, cos, zero], dim=1)]
    return torch.stack(rows, dim=1).to(like.dtype)


def _blurred(grey: Tensor) -> Tensor:
    count = grey.shape[0]
    chosen = (torch.rand(count, device=grey.device) < BLUR_SHARE).to(grey.dtype)
    sigma = torch.rand(count, device=grey.device) * BLUR_MOST * chosen + 1e-3
    return gaussian_blur(grey, sigma=sigma, radius=round(3 * BLUR_MOST))


def _tone(grey: Tensor) -> Tensor:
    count = grey.shape[0]
    contrast = 1 + CONTRAST * (2 * torch.rand(count, 1, 1, 1, device=grey.device) - 1)
    brightness = BRIGHTNESS * (2 * torch.rand(count, 1, 1, 1, device=grey.device) - 1)
    return ((grey - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
