"""Activation maps: the package's own answers, reached sooner and with a sign, and checks that can tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_grad_cam import EigenCAM, GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, SemanticSegmentationTarget
from torch import nn

from ml_core.errors import UserError
from ml_core.models.activation_maps import confidence_drop, correlation, eigen_cam, grad_cam
from ml_core.models.cam_layers import STAGES, decoder_of, stage_of
from ml_core.models.encoders import build
from ml_core.models.linear_classifier import Classifier
from ml_core.models.unet import Segmenter

pytestmark = pytest.mark.slow  # runs networks: seconds each


def _image() -> torch.Tensor:
    return torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [("resnet18", "layer1"), ("resnet18", "layer4"), ("resnet50", "layer3"), ("attention26", "layer4")],
)
def test_eigen_cam_is_the_packages_own_up_to_its_sign(architecture: str, layer: str) -> None:
    torch.manual_seed(0)
    encoder = build(architecture).eval()
    ours = eigen_cam(encoder, getattr(encoder, layer), _image())[0]
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
    [cam] = eigen_cam(network, network.layer, x)
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
        maps.append(grad_cam(network, network.encoder.layer3, _image(), score=lambda logits: logits.sum())[0])
        assert all(parameter.grad is None for parameter in network.parameters())
    assert np.array_equal(maps[0], maps[1])
    assert maps[0].shape == (96, 96)
    assert 0 <= maps[0].min() <= maps[0].max() <= 1
    assert maps[0].max() > 0.9


@pytest.mark.parametrize("decoder", ["unet", "unetplusplus", "fpn"])
@pytest.mark.parametrize("layer", ["layer2", "layer4", "decoder"])
def test_grad_cam_of_a_segmenter_is_the_packages_own(decoder: str, layer: str) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(
        architecture="resnet18", decoder=decoder, classes=3, mean=[0.5] * 3, deviation=[0.2] * 3
    ).eval()
    network = segmenter.network
    target = decoder_of(network) if layer == "decoder" else stage_of(network.encoder, layer)
    mask = np.zeros((96, 96), np.float32)
    mask[20:50, 30:90] = 1
    ours = grad_cam(network, target, _image(), score=lambda logits: (logits[0, 2] * torch.from_numpy(mask)).sum())[0]
    with GradCAM(model=network, target_layers=[target]) as cam:
        theirs = cam(input_tensor=_image(), targets=[SemanticSegmentationTarget(2, mask)])[0]
    assert np.abs(ours - theirs).max() < 1e-4
    assert theirs.max() > 0.5


@pytest.mark.parametrize("architecture", ["resnet18", "attention26", "casser"])
def test_grad_cam_of_a_classifier_is_the_packages_own(architecture: str) -> None:
    torch.manual_seed(0)
    channels = 1 if architecture == "casser" else 3
    classifier = Classifier(
        architecture=architecture, classes="abc", mean=[0.5] * channels, deviation=[0.2] * channels, image_size=96
    ).eval()
    layer = stage_of(classifier.encoder, "layer3")
    images = torch.cat([_image()[:, :1], _image()[:, 1:2]])
    ours = grad_cam(classifier, layer, images, score=lambda logits: logits[:, 1].sum())
    with GradCAM(model=classifier, target_layers=[layer]) as cam:
        theirs = cam(input_tensor=images, targets=[ClassifierOutputTarget(1)] * 2)
    assert ours.shape == (2, 96, 96)
    assert np.abs(ours - theirs).max() < 1e-4


def _side(network: nn.Module, layer: nn.Module, *, channels: int) -> int:
    """The side of the maps of `layer` for an image of 64 px."""
    sides: list[int] = []
    hook = layer.register_forward_hook(lambda _module, _given, maps: sides.append(maps.shape[-1]))
    with torch.inference_mode():
        network(torch.rand(1, channels, 64, 64))
    hook.remove()
    return sides[0]


def test_every_architecture_has_its_stages_from_fine_to_coarse() -> None:
    for architecture in ("resnet18", "attention26", "casser"):
        channels = 1 if architecture == "casser" else 3
        encoder = build(architecture, channels=channels).eval()
        sides = [_side(encoder, stage_of(encoder, name), channels=channels) for name in STAGES]
        assert sides == sorted(sides, reverse=True)
        assert len(set(sides)) == 3
        with pytest.raises(UserError, match=r"no layer layer9. Choose layer2, layer3 or layer4"):
            stage_of(encoder, "layer9")


@pytest.mark.parametrize(
    ("architecture", "decoder", "side"),
    [("resnet18", "unet", 32), ("resnet18", "unetplusplus", 32), ("resnet18", "fpn", 16), ("casser", "unet", 32)],
)
def test_a_decoder_is_mapped_before_its_prediction(architecture: str, decoder: str, side: int) -> None:
    channels = 1 if architecture == "casser" else 3
    segmenter = Segmenter(
        architecture=architecture, decoder=decoder, classes=2, mean=[0.5] * channels, deviation=[0.2] * channels
    ).eval()
    assert _side(segmenter.network, decoder_of(segmenter.network), channels=channels) == side


def test_hooks_are_taken_off_again() -> None:
    encoder = build("resnet18").eval()
    eigen_cam(encoder, encoder.layer4, _image())
    grad_cam(encoder, encoder.layer3, _image(), score=lambda maps: maps[-1].sum())
    assert not encoder.layer4._forward_hooks
    assert not encoder.layer3._forward_hooks
    assert torch.is_grad_enabled()


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
