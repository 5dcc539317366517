"""Scores of a colorizer on photographs, and of baselines that give every pixel the same answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ml_core.models.colorizers.colour_bins import annealed_mean, cross_entropy, encode, rebalancing

_LEVELS = 256


@dataclass(frozen=True)
class Marginal:
    """How common colours are in the training photographs: the best answer that does not depend on the image.

    `weights` (313,) is how much each bin counts in the loss. `share` and `weighted_share` (313,) are the distributions
    with the least cross-entropy, plain and weighted; `mean` (2,) is the mean ab.
    """

    weights: Tensor
    share: Tensor
    weighted_share: Tensor
    mean: Tensor


class ColourCounter:
    """Counts colours by integer a and b, so that counting takes no longer than reading the photographs."""

    def __init__(self, *, bins: Tensor) -> None:
        self._bins = bins
        self._counts = torch.zeros(_LEVELS**2, dtype=torch.int64, device=bins.device)

    def add(self, ab: Tensor) -> None:
        """Adds colours (B, 2, H, W)."""
        a, b = (ab.round() + _LEVELS // 2).clamp(0, _LEVELS - 1).long().unbind(dim=1)
        self._counts += torch.bincount((a * _LEVELS + b).flatten(), minlength=_LEVELS**2)

    def marginal(self, *, balance: float) -> Marginal:
        """`balance` as in `ml_core.models.colorizers.colour_bins.rebalancing`."""
        seen = self._counts.nonzero().flatten()
        counts = self._counts[seen].double()
        colours = torch.stack([seen // _LEVELS, seen % _LEVELS], dim=1).float() - _LEVELS // 2
        encoded = encode(colours.T[None, :, :, None], bins=self._bins)
        nearest, shares = encoded.bins[0, 0, :, 0], encoded.shares[0, :, :, 0].double()
        plain = torch.zeros(len(self._bins), dtype=torch.float64, device=self._bins.device)
        weights = rebalancing(
            plain.index_add(0, nearest, counts).float() / counts.sum().float(), bins=self._bins, balance=balance
        )
        # One more colour in each bin: a colour that was never seen is rare, not impossible.
        weighted, soft = (
            (plain + 1).index_add(0, encoded.bins[0, :, :, 0].flatten(), (shares * how_much).flatten())
            for how_much in (counts * weights[nearest].double(), counts)
        )
        return Marginal(
            weights=weights,
            share=(soft / soft.sum()).float(),
            weighted_share=(weighted / weighted.sum()).float(),
            mean=((colours.double() * counts[:, None]).sum(dim=0) / counts.sum()).float(),
        )


@dataclass(frozen=True)
class ColourFigures:
    """Scores over all cells of all photographs.

    `loss` is the cross-entropy over the 313 bins in nats as in training, each cell by its weight. A network trained
    with it predicts weight x probability, up to a factor; `cross_entropy` is that of the probabilities, with the
    weights divided out and each cell counted equally. Both are also given for the marginal. `ab_error` is the distance
    in ab between the predicted colour and the true one, averaged within each bin that occurs and then over these bins,
    so that grey areas do not dominate; also given for the training photographs' mean colour in every cell, and for
    grey.
    """

    cross_entropy: float
    marginal_cross_entropy: float
    loss: float
    marginal_loss: float
    ab_error: float
    constant_ab_error: float
    grey_ab_error: float

    def as_results(self) -> dict[str, float]:
        return asdict(self)

    def as_points(self) -> dict[str, float]:
        """The scores under the names of points: the network's and, as constant lines, the baselines'."""
        return {
            "loss/validation": self.loss,
            "loss/marginal": self.marginal_loss,
            "cross_entropy/validation": self.cross_entropy,
            "cross_entropy/marginal": self.marginal_cross_entropy,
            "ab_error/validation": self.ab_error,
            "ab_error/constant": self.constant_ab_error,
        }


class ColourMeter:
    """Accumulates the scores of a colorizer batch by batch; nothing leaves the device before `figures`."""

    def __init__(self, marginal: Marginal, *, bins: Tensor, temperature: float) -> None:
        self._marginal = marginal
        self._bins = bins
        self._temperature = temperature
        self._sums = torch.zeros(4, dtype=torch.float64, device=bins.device)
        self._cells = 0
        # By true bin: number of cells, and the sums of their errors: the network's, the mean colour's, grey's.
        self._errors = torch.zeros(len(bins), 4, dtype=torch.float64, device=bins.device)

    def add(self, logits: Tensor, ab: Tensor) -> None:
        """Adds a batch: `logits` (B, 313, H, W) and the true colours `ab` (B, 2, H, W)."""
        known = self._marginal
        truth = encode(ab, bins=self._bins)
        nearest = truth.bins[:, 0]
        weight = known.weights[nearest]
        found = cross_entropy(logits, truth)
        probable = cross_entropy(logits.float() - known.weights.log().view(1, -1, 1, 1), truth)
        plain, weighted = (
            -(truth.shares * share.log()[truth.bins]).sum(dim=1) for share in (known.share, known.weighted_share)
        )
        sums = [probable.sum(), plain.sum(), (weight * found).sum(), (weight * weighted).sum()]
        self._sums += torch.stack(sums).double()
        self._cells += nearest.numel()

        shown = annealed_mean(logits, bins=self._bins, temperature=self._temperature)
        guesses = (shown, known.mean.view(1, 2, 1, 1), torch.zeros_like(ab))
        errors = [(guess - ab).norm(dim=1) for guess in guesses]
        rows = torch.stack([torch.ones_like(errors[0]), *errors], dim=-1).view(-1, 4)
        self._errors.index_add_(0, nearest.flatten(), rows.double())

    def figures(self) -> ColourFigures:
        sums = (self._sums / self._cells).tolist()
        occurring = self._errors[self._errors[:, 0] > 0]
        errors = (occurring[:, 1:] / occurring[:, :1]).mean(dim=0).tolist()
        return ColourFigures(*sums, *errors)
