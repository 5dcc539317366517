"""How well colours are known, beside what can be said without looking: against the plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ml_core.metrics.colorization import ColourCounter, ColourMeter
from ml_core.models.colorizers.colour_bins import annealed_mean, colour_bins, encode, rebalancing

BINS = colour_bins()


def _colours(count: int, *, seed: int = 0) -> torch.Tensor:
    """Whole numbers of ab, mostly greyish, none between two bins: (count, 2, 6, 5)."""
    chance = torch.Generator().manual_seed(seed)
    ab = (torch.randn(count, 2, 6, 5, generator=chance) * 25).round().clamp(-60, 60)
    return ab + (ab % 10 == 5)


def _dense(ab: torch.Tensor) -> torch.Tensor:
    """Soft-encoded, one row per cell: (cells, 313)."""
    encoded = encode(ab, bins=BINS)
    whole = torch.zeros(len(ab), 313, *ab.shape[2:]).scatter_(1, encoded.bins, encoded.shares)
    return whole.permute(0, 2, 3, 1).reshape(-1, 313)


def test_the_marginal_is_what_the_colours_are_on_average() -> None:
    ab = _colours(7)
    counter = ColourCounter(bins=BINS)
    counter.add(ab[:4])
    counter.add(ab[4:])
    marginal = counter.marginal(balance=0.5)
    dense = _dense(ab)
    torch.testing.assert_close(marginal.mean, ab.mean(dim=(0, 2, 3)), atol=1e-4, rtol=0)
    expected = (dense.sum(dim=0) + 1) / (len(dense) + 313)
    torch.testing.assert_close(marginal.share, expected, atol=1e-5, rtol=1e-4)
    nearest = dense.argmax(dim=1)
    weights = rebalancing(torch.bincount(nearest, minlength=313) / len(dense), bins=BINS, balance=0.5)
    torch.testing.assert_close(marginal.weights, weights, atol=1e-4, rtol=1e-4)
    weighted = (dense * weights[nearest, None]).sum(dim=0) + 1
    torch.testing.assert_close(marginal.weighted_share, weighted / weighted.sum(), atol=1e-5, rtol=1e-4)


def test_no_constant_distribution_has_a_lower_cross_entropy_than_the_marginal() -> None:
    ab = _colours(60)
    counter = ColourCounter(bins=BINS)
    counter.add(ab)
    marginal = counter.marginal(balance=0.5)
    chance = torch.Generator().manual_seed(1)
    for share, spoiled in ((marginal.share, "cross_entropy"), (marginal.weighted_share, "loss")):
        meter = ColourMeter(marginal, bins=BINS, temperature=0.38)
        other = (share.log() + torch.randn(313, generator=chance) * 0.1).softmax(dim=0)
        raised = other * marginal.weights if spoiled == "cross_entropy" else other
        meter.add(raised.log().view(1, 313, 1, 1).expand(len(ab), -1, 6, 5), ab)
        found = meter.figures()
        assert getattr(found, spoiled) > getattr(found, f"marginal_{spoiled}") + 1e-3
        best = ColourMeter(marginal, bins=BINS, temperature=0.38)
        raised = share * marginal.weights if spoiled == "cross_entropy" else share
        best.add(raised.log().view(1, 313, 1, 1).expand(len(ab), -1, 6, 5), ab)
        figures = best.figures()
        assert getattr(figures, spoiled) == pytest.approx(getattr(figures, f"marginal_{spoiled}"), rel=1e-5)


def test_the_figures_are_those_of_the_plain_formulas_in_however_many_batches() -> None:
    counter = ColourCounter(bins=BINS)
    counter.add(_colours(10, seed=3))
    marginal = counter.marginal(balance=0.5)
    ab = _colours(6, seed=4)
    logits = torch.randn(6, 313, 6, 5, generator=torch.Generator().manual_seed(2))
    meter = ColourMeter(marginal, bins=BINS, temperature=0.38)
    meter.add(logits[:1], ab[:1])
    meter.add(logits[1:], ab[1:])
    found = meter.figures()

    dense = _dense(ab)
    nearest = dense.argmax(dim=1)
    weight = marginal.weights[nearest]
    flat = logits.permute(0, 2, 3, 1).reshape(-1, 313)
    ours = -(dense * flat.log_softmax(dim=1)).sum(dim=1)
    likely = -(dense * (flat - marginal.weights.log()).log_softmax(dim=1)).sum(dim=1)
    constant = -(dense * marginal.share.log()).sum(dim=1)
    weighted = -(dense * marginal.weighted_share.log()).sum(dim=1)
    assert found.cross_entropy == pytest.approx(float(likely.mean()), rel=1e-5)
    assert found.marginal_cross_entropy == pytest.approx(float(constant.mean()), rel=1e-5)
    assert found.loss == pytest.approx(float((weight * ours).mean()), rel=1e-5)
    assert found.marginal_loss == pytest.approx(float((weight * weighted).mean()), rel=1e-5)

    shown = annealed_mean(logits, bins=BINS)
    for name, guess in (
        ("ab_error", shown),
        ("constant_ab_error", marginal.mean.view(1, 2, 1, 1).expand_as(ab)),
        ("grey_ab_error", torch.zeros_like(ab)),
    ):
        error = (guess - ab).norm(dim=1).flatten().numpy()
        by_colour = [error[nearest.numpy() == colour].mean() for colour in np.unique(nearest)]
        assert getattr(found, name) == pytest.approx(float(np.mean(by_colour)), rel=1e-5)


def test_a_rare_colour_weighs_as_much_in_the_error_as_a_common_one() -> None:
    counter = ColourCounter(bins=BINS)
    counter.add(torch.zeros(1, 2, 10, 10))
    meter = ColourMeter(counter.marginal(balance=0.5), bins=BINS, temperature=0.38)
    ab = torch.zeros(1, 2, 10, 10)
    ab[:, :, 0, 0] = torch.tensor([30.0, 40.0])
    meter.add(torch.zeros(1, 313, 10, 10), ab)
    # 99 grey cells without error and one coloured cell that is 50 away: the mean over both colours.
    assert meter.figures().grey_ab_error == pytest.approx(25)
