"""Lab and sRGB agree with scikit-image, and with each other."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from skimage import color

from ml_core.imaging.tensor_lab import lab_to_rgb, lightness_of_grey, rgb_to_lab


@pytest.fixture
def rgb() -> torch.Tensor:
    """Random colours, (2, 3, 24, 24): bright ones, dark ones, where the formula changes its branch, and extremes."""
    colours = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T  # black, white and the purest colours
    colours[0, :, 0, :8] = corners
    colours[0, :, 1] *= 0.05
    # Either side of the knees of sRGB (0.04045) and of Lab (0.008856 of the white).
    colours[0, :, 2] = torch.linspace(0.0404, 0.0405, 24)
    colours[0, :, 3] = torch.linspace(0.09, 0.1, 24)
    # Pure channels and greys from black to white.
    ramp = torch.linspace(0, 1, 24)
    for channel in range(3):
        colours[1, :, channel] = 0
        colours[1, channel, channel] = ramp
    colours[1, :, 3] = ramp
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


def test_lab_beyond_what_a_screen_shows_is_clipped_as_scikit_image_does() -> None:
    """Every lightness with the whole square of ab that planes can hold."""
    ab = torch.linspace(-128, 127, 18)
    lab = torch.stack(torch.meshgrid(torch.linspace(0, 100, 11), ab, ab, indexing="ij"), dim=1)  # (11, 3, 18, 18)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-image says of most of these that they are no colours
        theirs = color.lab2rgb(lab.permute(0, 2, 3, 1).double().numpy())
    assert np.abs(lab_to_rgb(lab).permute(0, 2, 3, 1).numpy() - theirs).max() < 1e-3


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
