"""Activation maps: the package's own answers, reached sooner and with a sign, and checks that can tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_grad_cam import EigenCAM
from torch import nn

from ml_core.models.activation_maps import confidence_drop, correlation, eigen_cam, grad_cam
from ml_core.models.encoders import build
from ml_core.models.unet import Segmenter

pytestmark = pytest.mark.slow  # runs networks: seconds each


def _image() -> torch.Tensor:
    return torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("layer", ["layer1", "layer4"])
def test_eigen_cam_is_the_packages_own_up_to_its_sign(layer: str) -> None:
    torch.manual_seed(0)
    encoder = build("resnet18").eval()
    ours = eigen_cam(encoder, getattr(encoder, layer), _image())
    with EigenCAM(model=encoder, target_layers=[getattr(encoder, layer)]) as cam:
        cam.get_cam_image, plain = (lambda *a: -plain(*a)), cam.get_cam_image
        negative = cam(input_tensor=_image(), targets=[None])[0]
        cam.get_cam_image = plain
        positive = cam(input_tensor=_image(), targets=[None])[0]
    assert ours.shape == (96, 96)
    assert min(np.abs(ours - positive).max(), np.abs(ours - negative).max()) < 1e-3


class _Bright(nn.Module):
    """Its one layer answers brightness in two channels: as it is, and twice."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.constant_(self.layer.weight, sign)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_eigen_cam_shows_where_activations_are_strong_and_not_the_rest(sign: float) -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[..., 4:8, 4:8] = 1
    network = _Bright(sign)
    cam = eigen_cam(network, network.layer, x)
    assert cam[4:8, 4:8].min() == pytest.approx(1, abs=1e-4)
    assert cam[12:, 12:].max() == pytest.approx(0, abs=1e-4)


def test_grad_cam_of_a_frozen_segmenter_is_that_of_the_trainable_one() -> None:
    maps = []
    for frozen in (True, False):
        torch.manual_seed(0)
        segmenter = Segmenter(
            architecture="resnet18", classes=2, mean=[0.5] * 3, deviation=[0.2] * 3, frozen=frozen
        ).eval()
        network = segmenter.network
        maps.append(grad_cam(network, network.encoder.layer3, _image(), category=0, mask=np.ones((96, 96))))
    assert np.array_equal(maps[0], maps[1])
    assert maps[0].shape == (96, 96)
    assert 0 <= maps[0].min() <= maps[0].max() <= 1
    assert maps[0].max() > 0.9


def test_hooks_are_taken_off_again() -> None:
    encoder = build("resnet18").eval()
    eigen_cam(encoder, encoder.layer4, _image())
    assert not encoder.layer4._forward_hooks


def test_hiding_what_matters_costs_more_confidence_than_hiding_the_rest() -> None:
    grey = torch.full((1, 1, 20, 20), 0.2)
    grey[..., :8, :8] = 1
    truth = np.zeros((20, 20), dtype=np.float32)
    truth[:8, :8] = 1

    def confidence(image: torch.Tensor) -> float:
        return float(image[..., :8, :8].mean())

    assert confidence_drop(confidence, grey, truth) > 0.7
    assert confidence_drop(confidence, grey, truth[::-1, ::-1].copy()) == pytest.approx(0)


def test_correlation_is_that_of_numpy_and_none_for_a_flat_map() -> None:
    first, second = np.random.default_rng(0).random((2, 12, 9)).astype(np.float32)
    assert correlation(first, second) == pytest.approx(np.corrcoef(first.ravel(), second.ravel())[0, 1], abs=1e-6)
    assert correlation(first, first) == pytest.approx(1)
    assert correlation(first, np.zeros_like(first)) is None
