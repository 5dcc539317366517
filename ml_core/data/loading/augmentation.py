"""Augments batches of micrographs together with their masks, on the device, with random parameters per sample.

All random numbers come from the device's global generator, whose state is part of a checkpoint.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ml_core.imaging.tensor_blur import gaussian_blur

Policy = Literal["paper", "tone", "dihedral", "elastic"]

BLUR_SHARE = 0.3
"""The share of the samples that are blurred."""
BLUR_MOST = 1.2
"""The greatest standard deviation of the blur, in pixels."""
BRIGHTNESS = 0.15
CONTRAST = 0.2

DIHEDRAL_BRIGHTNESS = 0.2
DIHEDRAL_CONTRAST = 0.3
DIHEDRAL_GAMMA = 0.4
"""The exponent is e to the power of at most this, up or down."""
DIHEDRAL_NOISE = 0.04
"""The greatest standard deviation of the noise, where white is 1."""

ELASTIC_ANGLE = math.radians(45)
"""The greatest rotation, in either direction, in addition to the quarter turns."""
ELASTIC_SCALE = 1.25
"""The greatest scale factor, up or down."""
ELASTIC_BEND = 0.015
"""The standard deviation of the shifts at the knots, as a share of the image's side."""
ELASTIC_KNOTS = 6


def augment(grey: Tensor, masks: Tensor, *, policy: Policy = "tone") -> tuple[Tensor, Tensor]:
    """Augments `grey` (B, 1, S, S) in 0..1 and `masks` (B, S, S) integers by the same geometry; shapes are kept.

    paper: flips, rotations by any angle and blur (paper, section V). tone: brightness and contrast as well. In both,
    masks take the nearest pixel, so class values are never mixed, and uncovered corners are filled by reflection.
    dihedral: the eight symmetries of a square, so that nothing is interpolated or filled; then blur, contrast,
    brightness, gamma and noise. For crops at full resolution, where rotation by any angle would make a quarter of the
    crop filler.
    elastic: like dihedral, and before the tone changes rotated by up to 45 degrees, scaled and deformed (Ronneberger
    et al. 2015, section 3.1), so that no crop repeats; filled by reflection. For few labels and many epochs.
    """
    if policy in ("dihedral", "elastic"):
        grey, masks = _dihedral(grey, masks)
        if policy == "elastic":
            grey, masks = _moved_to(_bent(len(grey), like=grey), grey, masks)
        grey = _contrast(_blurred(grey), contrast=DIHEDRAL_CONTRAST, brightness=DIHEDRAL_BRIGHTNESS)
        return _noisy(_gamma(grey)), masks
    grey, masks = _turned(grey, masks)
    grey = _blurred(grey)
    return grey if policy == "paper" else _contrast(grey, contrast=CONTRAST, brightness=BRIGHTNESS), masks


def _turned(grey: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    grid = functional.affine_grid(_turns(len(grey), like=grey), list(grey.shape), align_corners=False)
    return _moved_to(grid, grey, masks)


def _bent(count: int, *, like: Tensor) -> Tensor:
    """Sampling grids (B, H, W, 2) of an elastic deformation: a rotation and a scale per sample, and smooth shifts."""
    angle = ELASTIC_ANGLE * _either_way(like).view(count)
    scale = (math.log(ELASTIC_SCALE) * _either_way(like).view(count)).exp()
    cos, sin, zero = angle.cos() * scale, angle.sin() * scale, torch.zeros_like(angle)
    rows = [torch.stack([cos, -sin, zero], dim=1), torch.stack([sin, cos, zero], dim=1)]
    grid = functional.affine_grid(torch.stack(rows, dim=1).to(like.dtype), list(like.shape), align_corners=False)
    # The grid's coordinates run from -1 to 1 along a side.
    knots = 2 * ELASTIC_BEND * torch.randn(count, 2, ELASTIC_KNOTS, ELASTIC_KNOTS, device=like.device)
    shifts = functional.interpolate(knots, size=like.shape[-2:], mode="bicubic", align_corners=True)
    return grid + shifts.permute(0, 2, 3, 1).to(grid.dtype)


def _moved_to(grid: Tensor, grey: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Samples images and masks at `grid` (B, H, W, 2): masks by the nearest pixel, the outside by reflection."""
    grey = functional.grid_sample(grey, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    turned = functional.grid_sample(
        masks[:, None].to(grey.dtype), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return grey, turned[:, 0].round().to(masks.dtype)


def _turns(count: int, *, like: Tensor) -> Tensor:
    """Affine maps (B, 2, 3): a rotation by any angle and, for half of the samples, a mirror.

    As the angles include half a turn, one mirror axis gives all flips.
    """
    angle = torch.rand(count, device=like.device) * (2 * torch.pi)
    mirror = (torch.rand(count, device=like.device) < 0.5).to(like.dtype) * 2 - 1
    cos, sin = angle.cos(), angle.sin()
    zero = torch.zeros_like(cos)
    rows = [torch.stack([mirror * cos, -sin, zero], dim=1), torch.stack([mirror * sin, cos, zero], dim=1)]
    return torch.stack(rows, dim=1).to(like.dtype)


def _dihedral(grey: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Applies two mirrors and the transposition, each to half of the samples: all eight symmetries of a square."""
    assert grey.shape[-1] == grey.shape[-2], "only a square can be transposed in its place"
    chosen = torch.rand(3, len(grey), device=grey.device) < 0.5
    for which, (first, second) in zip(chosen, ((-1, None), (-2, None), (-1, -2)), strict=True):
        grey = torch.where(which[:, None, None, None], _moved(grey, first, second), grey)
        masks = torch.where(which[:, None, None], _moved(masks, first, second), masks)
    return grey, masks


def _moved(x: Tensor, first: int, second: int | None) -> Tensor:
    return x.flip(first) if second is None else x.transpose(first, second)


def _blurred(grey: Tensor) -> Tensor:
    count = grey.shape[0]
    chosen = (torch.rand(count, device=grey.device) < BLUR_SHARE).to(grey.dtype)
    sigma = torch.rand(count, device=grey.device) * BLUR_MOST * chosen + 1e-3
    return gaussian_blur(grey, sigma=sigma, radius=round(3 * BLUR_MOST))


def _contrast(grey: Tensor, *, contrast: float, brightness: float) -> Tensor:
    stretched = 1 + contrast * _either_way(grey)
    shifted = brightness * _either_way(grey)
    return ((grey - 0.5) * stretched + 0.5 + shifted).clamp(0, 1)


def _gamma(grey: Tensor) -> Tensor:
    return grey ** (DIHEDRAL_GAMMA * _either_way(grey)).exp()


def _noisy(grey: Tensor) -> Tensor:
    """Adds noise of a random strength per sample; not clamped, as a clamp would shift the mean of dark and bright."""
    strength = DIHEDRAL_NOISE * torch.rand(len(grey), 1, 1, 1, device=grey.device)
    return grey + strength * torch.randn_like(grey)


def _either_way(grey: Tensor) -> Tensor:
    """Random numbers in -1..1, one per sample, (B, 1, 1, 1)."""
    return 2 * torch.rand(len(grey), 1, 1, 1, device=grey.device) - 1
