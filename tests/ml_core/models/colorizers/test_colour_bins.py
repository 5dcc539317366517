"""313 colours: which they are, how a colour is spread over them, how much each counts, which one is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from skimage import color
from sklearn.neighbors import NearestNeighbors

from ml_core.models.colorizers.colour_bins import (
    BINS,
    annealed_mean,
    colour_bins,
    cross_entropy,
    encode,
    rebalancing,
    smoothed,
)

# The authors' own list (pts_in_hull.npy): for each a, the least and the greatest b.
PUBLISHED = {
    -90: (50, 90), -80: (20, 90), -70: (0, 90), -60: (-20, 90), -50: (-30, 100), -40: (-40, 100), -30: (-50, 100),
    -20: (-50, 100), -10: (-60, 100), 0: (-70, 100), 10: (-80, 90), 20: (-80, 90), 30: (-90, 90), 40: (-100, 90),
    50: (-100, 80), 60: (-110, 80), 70: (-110, 80), 80: (-110, 70), 90: (-110, 70), 100: (-90, 0),
}  # fmt: skip


def _colours(count: int, *, seed: int) -> torch.Tensor:
    """ab of random sRGB colours, (1, 2, 1, count)."""
    rgb = np.random.default_rng(seed).random((1, count, 3))
    return torch.from_numpy(color.rgb2lab(rgb)[..., 1:]).permute(2, 0, 1)[None].float()


def test_the_bins_are_the_313_of_the_publication_in_its_order() -> None:
    published = [(a, b) for a, (least, most) in PUBLISHED.items() for b in range(least, most + 1, 10)]
    assert len(published) == BINS == 313
    assert [tuple(row) for row in colour_bins().int().tolist()] == published


def test_the_bins_are_the_grid_within_one_step_of_the_hull_of_all_srgb_colours() -> None:
    """The same rule, with another library's Lab and another library's hull."""
    levels = np.linspace(0, 1, 33)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    gamut = color.rgb2lab(cube)[0, :, 1:]
    corners = [(gamut + np.array(corner)) for corner in ((10, 10), (10, -10), (-10, 10), (-10, -10))]
    hull = ConvexHull(np.concatenate(corners)).equations
    along = np.arange(-130, 131, 10)
    grid = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = (grid @ hull[:, :2].T + hull[:, 2] <= 1e-9).all(axis=1)
    np.testing.assert_array_equal(colour_bins().numpy(), grid[inside])


def test_whoever_changes_the_bins_that_he_got_changes_nobody_elses() -> None:
    colour_bins().zero_()
    assert colour_bins().abs().sum() > 0


def test_a_colour_is_spread_over_its_five_nearest_bins_by_a_gaussian() -> None:
    ab, bins = _colours(300, seed=1), colour_bins()
    encoded = encode(ab, bins=bins)
    distance, nearest = NearestNeighbors(n_neighbors=5).fit(bins.numpy()).kneighbors(ab[0, :, 0].T.numpy())
    shares = np.exp(-(distance**2) / 50)
    shares /= shares.sum(axis=1, keepdims=True)
    dense = torch.zeros(300, BINS).scatter_(1, encoded.bins[0, :, 0].T, encoded.shares[0, :, 0].T)
    theirs = torch.zeros(300, BINS).scatter_(1, torch.from_numpy(nearest), torch.from_numpy(shares).float())
    torch.testing.assert_close(dense, theirs, atol=1e-4, rtol=0)
    np.testing.assert_array_equal(encoded.bins[0, 0, 0].numpy(), nearest[:, 0])


def test_autocast_does_not_blur_where_a_colour_lies() -> None:
    ab, bins = _colours(200, seed=2), colour_bins()
    exact = encode(ab, bins=bins)
    logits = torch.randn(1, BINS, 1, 200) * 5
    shown = annealed_mean(logits, bins=bins)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encode(ab, bins=bins).bins, exact.bins)
        assert torch.equal(annealed_mean(logits, bins=bins), shown)


def test_the_cross_entropy_is_that_of_torch_with_the_distribution_as_its_target() -> None:
    encoded = encode(_colours(50, seed=3), bins=colour_bins())
    logits = torch.randn(1, BINS, 1, 50, generator=torch.Generator().manual_seed(0))
    dense = torch.zeros(1, BINS, 1, 50).scatter_(1, encoded.bins, encoded.shares)
    theirs = torch.nn.functional.cross_entropy(logits, dense, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, encoded), theirs)


def test_rare_colours_count_more_and_the_mean_weight_is_one() -> None:
    bins = colour_bins()
    share = torch.rand(BINS, generator=torch.Generator().manual_seed(0)) ** 8
    share /= share.sum()
    weights = rebalancing(share, bins=bins, balance=0.5)
    smooth = smoothed(share, bins=bins)
    assert float((smooth * weights).sum()) == pytest.approx(1, abs=1e-5)
    # Equation 4, written out.
    plain = 1 / (0.5 * smooth + 0.5 / BINS)
    torch.testing.assert_close(weights, plain / (plain * smooth).sum())
    assert weights[smooth.argmin()] > 2 * weights[smooth.argmax()]


def test_a_balance_of_one_weighs_all_colours_alike() -> None:
    share = torch.rand(BINS)
    weights = rebalancing(share / share.sum(), bins=colour_bins(), balance=1)
    torch.testing.assert_close(weights, torch.ones(BINS), atol=1e-5, rtol=0)


def test_smoothing_moves_shares_to_neighbours_and_loses_none() -> None:
    bins = colour_bins()
    share = torch.zeros(BINS)
    middle = int((bins == 0).all(dim=1).nonzero())
    share[middle] = 1
    smooth = smoothed(share, bins=bins)
    assert float(smooth.sum()) == pytest.approx(1, abs=1e-6)
    anywhere = torch.rand(BINS, generator=torch.Generator().manual_seed(0))  # at the border of the gamut too
    assert float(smoothed(anywhere, bins=bins).sum()) == pytest.approx(float(anywhere.sum()), rel=1e-5)
    beside = int((bins == torch.tensor([10.0, 0.0])).all(dim=1).nonzero())
    # exp(-10^2 / (2 x 5^2)): what a neighbour one step away gets of it.
    assert float(smooth[beside] / smooth[middle]) == pytest.approx(np.exp(-2), rel=1e-5)


def test_the_annealed_mean_goes_from_the_mean_to_the_likeliest_colour() -> None:
    bins = colour_bins()
    logits = torch.randn(2, BINS, 3, 4, generator=torch.Generator().manual_seed(1)) * 3
    mean = torch.einsum("bqhw,qc->bchw", logits.softmax(dim=1), bins)
    torch.testing.assert_close(annealed_mean(logits, bins=bins, temperature=1), mean)
    likeliest = bins[logits.argmax(dim=1)].permute(0, 3, 1, 2)
    torch.testing.assert_close(annealed_mean(logits, bins=bins, temperature=1e-3), likeliest, atol=0.1, rtol=0)
    # Equation 5, written out.
    sharp = logits.softmax(dim=1).log().div(0.38).exp()
    sharp = sharp / sharp.sum(dim=1, keepdim=True)
    theirs = torch.einsum("bqhw,qc->bchw", sharp, bins)
    torch.testing.assert_close(annealed_mean(logits, bins=bins), theirs, atol=1e-3, rtol=0)
