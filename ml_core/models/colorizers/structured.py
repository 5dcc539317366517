"""Colour from structure: ab planes for a micrograph by a fixed, smooth map of local statistics. Needs no weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ml_core.imaging.tensor_blur import gaussian_blur

# The map of `structured_ab`: rows a and b over (fine mean, fine - coarse mean, coarse mean, fine contrast, coarse
# contrast). The numbers are chosen, not learned: incommensurate, so that no statistic alone fixes the colour, and small
# enough that a turns by about half a period over the usual range of each statistic, so that the map is gentle.
_PHASE = ((0.35, 1.9, -2.7, 1.3, -2.1), (0.25, -1.7, 2.3, -2.4, 1.1))
_OFFSET = (0.4, -0.9)
_ORIENTATION = ((0.9, -0.5), (0.4, 1.1))
"""How much the fine and the coarse orientation change a and b."""
_STRENGTH = 55.0
"""The maximum of |a| and |b|."""


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
