"""Gaussian blur of batches with a width per sample: two grouped convolutions, no loop."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_blur(
    x: Tensor, *, sigma: Tensor | float, radius: int, border: Literal["reflect", "replicate"] = "reflect"
) -> Tensor:
    """Blurs `x` (B, C, H, W) by standard deviations `sigma` in pixels: one for all, or one per sample, (B,).

    The kernel reaches `radius` pixels to each side, or as far as the image is wide.
    """
    count, channels, height, width = x.shape
    radius = min(radius, height - 1, width - 1)
    widths = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(count).repeat_interleave(channels)
    at = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernels = torch.exp(-(at**2) / (2 * widths[:, None] ** 2))
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    # Samples become channels, so that each is convolved with its own kernel.
    lanes = functional.pad(x.reshape(1, count * channels, height, width), (radius,) * 4, mode=border)
    lanes = functional.conv2d(lanes, kernels[:, None, :, None], groups=count * channels)
    return functional.conv2d(lanes, kernels[:, None, None, :], groups=count * channels).view(x.shape)
