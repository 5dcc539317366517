"""Lab and sRGB agree with scikit-image, and with each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import color

from ml_core.colour import lab_to_rgb, lightness_of_grey, rgb_to_lab


@pytest.fixture
def rgb() -> torch.Tensor:
    """Random colours, and the corners of the cube, where the formula changes its branch."""
    colours = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    colours[0, :, 0, 0] = 0
    colours[0, :, 0, 1] = 1
    colours[0, :, 1] *= 0.05
    return colours


def test_rgb_to_lab_agrees_with_scikit_image(rgb: torch.Tensor) -> None:
    ours = rgb_to_lab(rgb).permute(0, 2, 3, 1).numpy()
    theirs = color.rgb2lab(rgb.permute(0, 2, 3, 1).double().numpy())
    assert np.abs(ours - theirs).max() < 1e-3


def test_lab_to_rgb_agrees_with_scikit_image(rgb: torch.Tensor) -> None:
    lab = rgb_to_lab(rgb.double())
    ours = lab_to_rgb(lab.float()).permute(0, 2, 3, 1).numpy()
    theirs = color.lab2rgb(lab.permute(0, 2, 3, 1).numpy())
    assert np.abs(ours - theirs).max() < 1e-3


def test_there_and_back_is_the_same_colour(rgb: torch.Tensor) -> None:
    assert torch.allclose(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=1e-4)


def test_a_colour_that_no_screen_shows_is_clipped_not_wrapped() -> None:
    lab = torch.tensor([50.0, 120.0, -120.0]).view(1, 3, 1, 1)
    rgb = lab_to_rgb(lab)
    assert torch.isfinite(rgb).all()
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_the_lightness_of_grey_is_that_of_three_equal_channels() -> None:
    grey = torch.linspace(0, 1, 256).view(1, 1, 16, 16)
    whole = rgb_to_lab(grey.expand(1, 3, 16, 16))
    assert torch.allclose(lightness_of_grey(grey), whole[:, :1], atol=1e-3)
    assert whole[:, 1:].abs().max() < 0.05
