"""Converts between CIE L*a*b* and sRGB, in torch: D65 white, 2 degree observer.

Tensors are (..., 3, H, W), float. sRGB lies in 0..1, L in 0..100, a and b in about -110..110. The constants are those
of IEC 61966-2-1 (sRGB) and CIE 15 (Lab), with the rounding that scikit-image uses, so both agree to 1e-3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ml_core.imaging.lab import (
    GAMMA,
    GAMMA_KNEE,
    GAMMA_OFFSET,
    GAMMA_SLOPE,
    INTERCEPT,
    KNEE,
    LINEAR_KNEE,
    SLOPE,
    WHITE,
    XYZ_OF_RGB,
)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB in 0..1, shape (..., 3, H, W), to Lab of the same shape."""
    xyz = _mix(_linear(rgb), rgb.new_tensor(XYZ_OF_RGB)) / _white(rgb)
    x, y, z = _root(xyz).unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Lab, shape (..., 3, H, W), to sRGB in 0..1 of the same shape; colours outside of sRGB are clipped."""
    lightness, a, b = lab.unbind(-3)
    y = (lightness + 16) / 116
    root = torch.stack([y + a / 500, y, (y - b / 200).clamp_min(0)], dim=-3)
    xyz = torch.where(root > KNEE ** (1 / 3), root**3, (root - INTERCEPT) / SLOPE) * _white(lab)
    # The inverse in double precision: float32 loses the fourth digit.
    linear = _mix(xyz, torch.tensor(XYZ_OF_RGB, dtype=torch.float64).inverse().to(lab))
    bright = (1 + GAMMA_OFFSET) * linear.clamp_min(0) ** (1 / GAMMA) - GAMMA_OFFSET
    rgb = torch.where(linear > LINEAR_KNEE, bright, GAMMA_SLOPE * linear)
    return rgb.clamp(0, 1)


def lightness_of_grey(grey: Tensor) -> Tensor:
    """L in 0..100 of a grey value in 0..1 (the sRGB colour with three equal channels); any shape.

    A micrograph's grey values are taken as sRGB, as every viewer shows them.
    """
    return 116 * _root(_linear(grey)) - 16


def _linear(srgb: Tensor) -> Tensor:
    bright = ((srgb + GAMMA_OFFSET) / (1 + GAMMA_OFFSET)).clamp_min(0) ** GAMMA
    return torch.where(srgb > GAMMA_KNEE, bright, srgb / GAMMA_SLOPE)


def _root(xyz: Tensor) -> Tensor:
    return torch.where(xyz > KNEE, xyz.clamp_min(0) ** (1 / 3), SLOPE * xyz + INTERCEPT)


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Applies a 3x3 matrix to the channel axis, which is third from the end."""
    return torch.einsum("dc,...chw->...dhw", matrix, x)


def _white(like: Tensor) -> Tensor:
    return like.new_tensor(WHITE).view(3, 1, 1)
