"""Colour from structure: coherent in space, and not to be had from the grey value alone."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from torch.nn import functional

from ml_core.models.colorizers.structured import structured_ab


def _texture(count: int, size: int) -> torch.Tensor:
    """Noise at several scales, (B, 1, H, W) in 0..1: like a micrograph in what matters here."""
    chance = torch.Generator().manual_seed(3)
    layers = [
        functional.interpolate(torch.rand(count, 1, n, n, generator=chance), size=size, mode="bicubic")
        for n in (4, 12, size // 2)
    ]
    return (sum(layers) / 3).clamp(0, 1)


def test_structured_colour_is_the_same_each_time_and_lies_in_range() -> None:
    grey = _texture(2, 64)
    ab = structured_ab(grey)
    assert ab.shape == (2, 2, 64, 64)
    assert torch.equal(ab, structured_ab(grey))
    # Planes are kept as whole numbers; the batch that an image came in changes only the last bits of sums.
    assert torch.allclose(ab[1:], structured_ab(grey[1:]), atol=0.01)
    assert ab.abs().amax() <= 127
    assert ab.std() > 5


def test_one_grey_value_has_many_structured_colours() -> None:
    grey = (_texture(4, 64) * 255).round() / 255
    ab = structured_ab(grey).transpose(0, 1).flatten(1)
    values = (grey * 255).long().flatten()
    spread = torch.stack([ab[:, values == v].std(dim=1) for v in values.unique() if (values == v).sum() >= 20])
    assert spread.median(dim=0).values.min() > 0.5 * ab.std(dim=1).min()


def test_structured_colour_cannot_be_predicted_well_from_the_pixel_alone() -> None:
    """Even a strong regressor from L to ab, fitted and scored on other images, explains little."""
    grey = _texture(8, 64)
    ab = structured_ab(grey)
    for plane in range(2):
        fitted = HistGradientBoostingRegressor(random_state=0).fit(
            grey[:6].reshape(-1, 1).numpy(), ab[:6, plane].flatten().numpy()
        )
        assert fitted.score(grey[6:].reshape(-1, 1).numpy(), ab[6:, plane].flatten().numpy()) < 0.5


def test_structured_colour_is_coherent_in_space() -> None:
    ab = structured_ab(_texture(2, 64)).numpy()
    step = np.abs(np.diff(ab, axis=-1)).mean()
    anywhere = np.abs(ab - np.roll(ab, 31, axis=-1)).mean()
    assert step < 0.35 * anywhere
