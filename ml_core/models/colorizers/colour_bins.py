"""Colour as a class among 313 bins of the ab plane (Zhang, Isola and Efros, "Colorful Image Colorization", ECCV 2016).

A grey value may have many plausible colours, so the network predicts a distribution over bins rather than one colour:
the mean of a red and a green apple would be brown. Tensors of ab are (B, 2, H, W) in the units of Lab, and
distributions are (B, 313, H, W).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ml_core.imaging.tensor_lab import rgb_to_lab

BINS = 313
"""Points of the grid of step 10 that count as inside the gamut of sRGB (Zhang et al., section 2.1)."""
STEP = 10
NEIGHBOURS = 5
SIGMA = 5.0
"""In units of ab, for spreading a colour over its nearest bins and for smoothing the bins' shares."""
TEMPERATURE = 0.38
"""Between the mean (1: washed out) and the likeliest bin (0: spots) of a distribution (Zhang et al., section 2.3)."""


class Encoded(NamedTuple):
    """Colours as distributions over their NEIGHBOURS nearest bins: these bins, the nearest first, and their shares.

    Both (B, 5, H, W); the shares add up to 1.
    """

    bins: Tensor
    shares: Tensor


def colour_bins() -> Tensor:
    """The centres (a, b) of the bins, (313, 2), ordered by a, then by b.

    The publication does not define "in gamut". Of the grid's points, 233 are within the convex hull of the ab of all
    sRGB colours, and 261 are the nearest to some sRGB colour; the authors' own list is exactly the points within one
    step, along either axis, of that hull. This rule is used here, and the authors' order.
    """
    return _colour_bins().clone()


@lru_cache(maxsize=1)
def _colour_bins() -> Tensor:
    levels = torch.linspace(0, 1, 18, dtype=torch.float64)
    cube = torch.cartesian_prod(levels, levels, levels)
    gamut = rgb_to_lab(cube.T[..., None])[1:, :, 0].T  # (colours, 2); the corners and edges of the cube are extreme
    along = torch.arange(-13 * STEP, 13 * STEP + 1, STEP, dtype=torch.float64)
    grid = torch.cartesian_prod(along, along)
    # A point is in a convex set if, in every direction, it is no farther out than the set's farthest point; a square
    # around each point moves that limit by |cos| + |sin| of half its side.
    angle = torch.arange(0, 360, 0.5, dtype=torch.float64).deg2rad()
    directions = torch.stack([angle.cos(), angle.sin()])  # (2, directions)
    reach = (gamut @ directions).amax(dim=0) + STEP * directions.abs().sum(dim=0)
    inside = ((grid @ directions) <= reach + 1e-9).all(dim=1)
    bins = grid[inside].float()
    assert bins.shape == (BINS, 2), f"the gamut of sRGB covers {len(bins)} bins, and not {BINS}"
    return bins


def encode(ab: Tensor, *, bins: Tensor) -> Encoded:
    """Spreads each colour of `ab` (B, 2, H, W) over its 5 nearest bins by a Gaussian of sigma 5 (section 2.1)."""
    count, _, height, width = ab.shape
    colours = ab.float().permute(0, 2, 3, 1).reshape(-1, 2)
    with torch.autocast(ab.device.type, enabled=False):  # bfloat16 would round the distances.
        # |x - q|^2 minus |x|^2, which changes neither the order nor, after the softmax, the shares.
        distances = torch.addmm((bins**2).sum(dim=1), colours, bins.T, alpha=-2)
    nearest = distances.topk(NEIGHBOURS, dim=1, largest=False)
    shares = torch.softmax(-nearest.values / (2 * SIGMA**2), dim=1)
    found, shares = (t.view(count, height, width, NEIGHBOURS).permute(0, 3, 1, 2) for t in (nearest.indices, shares))
    return Encoded(found, shares)


def cross_entropy(logits: Tensor, encoded: Encoded) -> Tensor:
    """Cross-entropy -sum_q Z_q log Zhat_q per cell, (B, H, W), of `logits` (B, 313, H, W): equation 2, unweighted."""
    likelihood = torch.log_softmax(logits.float(), dim=1)
    return -(encoded.shares * likelihood.gather(1, encoded.bins)).sum(dim=1)


def rebalancing(share: Tensor, *, bins: Tensor, balance: float) -> Tensor:
    """The weight of each bin in the loss, (313,), from its `share` (313,) of the training colours (equation 4).

    The shares are smoothed by a Gaussian of sigma 5 over ab and mixed with `balance` (lambda) of the uniform
    distribution; the weight is the inverse, scaled so that it is 1 on average over the smoothed shares. Greyish
    colours fill most of any photograph: unweighted training learns only these. `balance` 1 weighs all bins equally.
    """
    smooth = smoothed(share, bins=bins)
    weights = 1 / ((1 - balance) * smooth + balance / len(smooth))
    return weights / (smooth * weights).sum()


def smoothed(share: Tensor, *, bins: Tensor) -> Tensor:
    """Shares (313,) blurred by a Gaussian of sigma 5 over the ab plane; their sum is kept."""
    kernel = torch.exp(-(torch.cdist(bins, bins) ** 2) / (2 * SIGMA**2))
    return (kernel / kernel.sum(dim=0)) @ share


def annealed_mean(logits: Tensor, *, bins: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The predicted colour, (B, 2, H, W): the mean of the distribution raised to 1 / `temperature` (equation 5)."""
    sharp = torch.softmax(logits.float() / temperature, dim=1)
    with torch.autocast(logits.device.type, enabled=False):  # bfloat16 has 8 bits: it would round ab to halves.
        return torch.einsum("bqhw,qc->bchw", sharp, bins)
