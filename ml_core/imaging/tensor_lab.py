"""CIE L*a*b* and sRGB, in torch: D65 white, 2 degree observer.

Tensors are (..., 3, H, W), float. sRGB lies in 0..1, L in 0..100, a and b in about -110..110. The constants are those
of IEC 61966-2-1 (sRGB) and CIE 15 (Lab), with the rounding that scikit-image uses, so both agree to 1e-3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ml_core.imaging.lab import KNEE, SLOPE, WHITE, XYZ_OF_RGB


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB in 0..1, shape (..., 3, H, W), to Lab of the same shape."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp_min(0) ** 2.4, rgb / 12.92)
    xyz = _mix(linear, rgb.new_tensor(XYZ_OF_RGB)) / _white(rgb)
    root = torch.where(xyz > KNEE, xyz.clamp_min(0) ** (1 / 3), SLOPE * xyz + 16 / 116)
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Lab, shape (..., 3, H, W), to sRGB in 0..1 of the same shape; colours that no screen shows are clipped."""
    lightness, a, b = lab.unbind(-3)
    y = (lightness + 16) / 116
    root = torch.stack([y + a / 500, y, (y - b / 200).clamp_min(0)], dim=-3)
    xyz = torch.where(root > KNEE ** (1 / 3), root**3, (root - 16 / 116) / SLOPE) * _white(lab)
    # The inverse in double precision: float32 loses the fourth digit.
    linear = _mix(xyz, torch.tensor(XYZ_OF_RGB, dtype=torch.float64).inverse().to(lab))
    rgb = torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(0) ** (1 / 2.4) - 0.055, 12.92 * linear)
    return rgb.clamp(0, 1)


def lightness_of_grey(grey: Tensor) -> Tensor:
    """L in 0..100 of a grey value in 0..1 (the sRGB colour with three equal channels); any shape.

    A micrograph's grey values are taken as sRGB, as every viewer shows them.
    """
    linear = torch.where(grey > 0.04045, ((grey + 0.055) / 1.055).clamp_min(0) ** 2.4, grey / 12.92)
    root = torch.where(linear > KNEE, linear.clamp_min(0) ** (1 / 3), SLOPE * linear + 16 / 116)
    return 116 * root - 16


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Applies a 3x3 matrix to the channel axis, which is third from the end."""
    return torch.einsum("dc,...chw->...dhw", matrix, x)


def _white(like: Tensor) -> Tensor:
    return like.new_tensor(WHITE).view(3, 1, 1)
