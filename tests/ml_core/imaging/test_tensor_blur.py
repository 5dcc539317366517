"""The Gaussian blur is the textbook's, sample by sample."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter

from ml_core.imaging.tensor_blur import gaussian_blur


@pytest.mark.parametrize(("border", "name"), [("reflect", "mirror"), ("replicate", "nearest")])
def test_each_sample_is_blurred_by_its_own_width_as_scipy_does(border: str, name: str) -> None:
    x = torch.rand(3, 2, 40, 31, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    blurred = gaussian_blur(x, sigma=sigma, radius=6, border=border)  # type: ignore[arg-type]
    for sample in range(3):
        for channel in range(2):
            expected = gaussian_filter(x[sample, channel].numpy(), float(sigma[sample]), mode=name, radius=6)
            assert torch.allclose(blurred[sample, channel], torch.from_numpy(expected), atol=1e-9)


def test_one_width_serves_all_and_a_kernel_never_outgrows_the_image() -> None:
    x = torch.rand(2, 1, 5, 9)
    assert torch.equal(gaussian_blur(x, sigma=3.0, radius=20), gaussian_blur(x, sigma=torch.full((2,), 3.0), radius=4))
