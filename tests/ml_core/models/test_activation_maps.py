"""Activation maps: the package's own answers, reached sooner and with a sign, and checks that can tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, SemanticSegmentationTarget
from torch import nn

from ml_core.errors import UserError
from ml_core.models import activation_maps
from ml_core.models.activation_maps import (
    CAM_CLASSES,
    MaskMeanTarget,
    Target,
    activation_map,
    confidence_drop,
    correlation,
)
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
    ours = activation_map("eigencam", encoder, getattr(encoder, layer), _image())[0]
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
    [cam] = activation_map("eigencam", network, network.layer, x)
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
        targets: list[Target] = [torch.sum]
        maps.append(activation_map("gradcam", network, network.encoder.layer3, _image(), targets=targets)[0])
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
    targets = [SemanticSegmentationTarget(2, mask)]
    ours = activation_map("gradcam", network, target, _image(), targets=targets)[0]
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
    ours = activation_map("gradcam", classifier, layer, images, targets=[ClassifierOutputTarget(1)] * 2)
    with GradCAM(model=classifier, target_layers=[layer]) as cam:
        theirs = cam(input_tensor=images, targets=[ClassifierOutputTarget(1)] * 2)
    assert ours.shape == (2, 96, 96)
    assert np.abs(ours - theirs).max() < 1e-4


PACKAGE = {
    "gradcam": GradCAM,
    "gradcamplusplus": GradCAMPlusPlus,
    "layercam": LayerCAM,
    "eigencam": EigenCAM,
    "scorecam": ScoreCAM,
}


def _classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(architecture="resnet18", classes="abc", mean=[0.5] * 3, deviation=[0.2] * 3, image_size=96).eval()


def _assert_the_packages_own(
    method: str, network: nn.Module, layer: nn.Module, x: torch.Tensor, targets: list[Target]
) -> None:
    ours = activation_map(method, network, layer, x, targets=targets)
    assert isinstance(CAM_CLASSES[method](network, [layer]), PACKAGE[method])
    with PACKAGE[method](model=network, target_layers=[layer]) as cam:
        theirs = cam(input_tensor=x, targets=targets)
        # The sign of an eigenvector is arbitrary; ours is set.
        plain = cam.get_cam_image
        cam.get_cam_image = lambda *given: -plain(*given)
        negative = cam(input_tensor=x, targets=targets)
    assert ours.shape == (len(x), *x.shape[-2:])
    assert ours.dtype == np.float32
    assert np.isfinite(ours).all()
    assert 0 <= ours.min() < 0.1 < 0.9 < ours.max() <= 1
    for n in range(len(x)):
        either = [theirs[n], negative[n]] if method == "eigencam" else [theirs[n]]
        assert min(np.abs(ours[n] - one).max() for one in either) < 1e-3


@pytest.mark.parametrize("method", PACKAGE)
def test_every_method_on_a_classifier_is_the_packages_own(method: str) -> None:
    classifier = _classifier()
    images = torch.cat([_image()[:, :1], _image()[:, 1:2]])[..., :64, :]
    targets = [ClassifierOutputTarget(1), ClassifierOutputTarget(2)]
    _assert_the_packages_own(method, classifier, classifier.encoder.layer3, images, targets)


@pytest.mark.parametrize("layer", ["layer2", "decoder"])
@pytest.mark.parametrize("method", PACKAGE)
def test_every_method_on_a_segmenter_is_the_packages_own(method: str, layer: str) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(architecture="resnet18", classes=2, mean=[0.5] * 3, deviation=[0.2] * 3).eval()
    network = segmenter.network
    mask = np.zeros((96, 96), np.float32)
    mask[20:50, 30:90] = 1
    kind = MaskMeanTarget if method == "scorecam" else SemanticSegmentationTarget
    module = decoder_of(network) if layer == "decoder" else stage_of(network.encoder, layer)
    _assert_the_packages_own(method, network, module, _image(), [kind(0, mask)])


def test_score_cam_shows_the_network_few_images_at_once_and_can_be_ended_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = _classifier()
    layer, targets = classifier.encoder.layer2, [ClassifierOutputTarget(1)]
    whole = activation_map("scorecam", classifier, layer, _image()[:, :1], targets=targets)
    monkeypatch.setattr(activation_maps, "SCORE_CAM_PIXELS", 10 * 96 * 96)
    shown: list[int] = []
    hook = classifier.register_forward_hook(lambda _module, given, _output: shown.append(len(given[0])))
    pieces = activation_map("scorecam", classifier, layer, _image()[:, :1], targets=targets)
    assert shown == [1] + [10] * 12 + [8], "the image itself, and 128 channels"
    assert np.abs(whole - pieces).max() < 1e-4

    def end() -> None:
        if len(shown) >= 17:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        activation_map("scorecam", classifier, layer, _image()[:, :1], targets=targets, before_batch=end)
    assert len(shown) == 17
    hook.remove()
    assert not layer._forward_hooks


def test_score_cam_of_a_mask_takes_the_mean_of_its_logits() -> None:
    mask = np.zeros((8, 8), np.float32)
    mask[2:4, 2:4] = 1
    logits = torch.rand(2, 8, 8)
    assert float(MaskMeanTarget(1, mask)(logits)) == pytest.approx(float(logits[1, 2:4, 2:4].mean()))


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
    activation_map("eigencam", encoder, encoder.layer4, _image())
    classifier = _classifier()
    for method in CAM_CLASSES:
        layer = classifier.encoder.layer3
        activation_map(method, classifier, layer, _image()[:, :1], targets=[ClassifierOutputTarget(0)])
        assert not layer._forward_hooks
    with pytest.raises(IndexError):
        activation_map("gradcam", classifier, layer, _image()[:, :1], targets=[ClassifierOutputTarget(9)])
    assert not encoder.layer4._forward_hooks
    assert not layer._forward_hooks
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
