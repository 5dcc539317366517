"""The U-Net on an encoder: what frozen means, its loss, tiles without seams, and augmentation of pairs."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from ml_core.data.loading.augmentation import augment
from ml_core.errors import UserError
from ml_core.models.unet import (
    LossSums,
    Segmenter,
    class_map,
    network_of,
    new_like,
    probabilities_of,
    segmentation_loss,
    segmenter_from,
)
from ml_core.runtime.weights import Weights

pytestmark = pytest.mark.slow


def _segmenter(*, classes: int = 2, frozen: bool = False) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(
        architecture="resnet18", classes=classes, mean=[0.5, 0.4, 0.6], deviation=[0.2, 0.3, 0.25], frozen=frozen
    )


def _one_step(segmenter: Segmenter) -> None:
    optimizer = torch.optim.Adam(segmenter.trained(), lr=0.01)
    segmenter.train()
    loss = segmentation_loss(segmenter(torch.rand(2, 1, 32, 32)), torch.randint(0, 2, (2, 32, 32)))
    loss.backward()
    optimizer.step()


def test_a_frozen_encoder_keeps_every_weight_and_statistic_while_the_decoder_learns() -> None:
    segmenter = _segmenter(frozen=True)
    before = {name: value.clone() for name, value in segmenter.network.state_dict().items()}
    _one_step(segmenter)
    after = segmenter.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in changed if name.startswith("encoder.")]
    assert [name for name in changed if name.startswith("decoder.")]


def test_a_fine_tuned_encoder_learns_and_its_statistics_move() -> None:
    segmenter = _segmenter()
    before = {name: value.clone() for name, value in segmenter.network.state_dict().items()}
    _one_step(segmenter)
    after = segmenter.network.state_dict()
    assert not torch.equal(before["encoder.conv1.weight"], after["encoder.conv1.weight"])
    assert not torch.equal(before["encoder.bn1.running_mean"], after["encoder.bn1.running_mean"])


@pytest.mark.parametrize("frozen", [True, False])
def test_the_forward_pass_is_that_of_the_library_on_the_normalised_image(frozen: bool) -> None:
    segmenter = _segmenter(frozen=frozen).eval()
    grey = torch.rand(1, 1, 64, 32)
    by_hand = (grey.repeat(1, 3, 1, 1) - torch.tensor([0.5, 0.4, 0.6]).view(1, 3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.25]
    ).view(1, 3, 1, 1)
    with torch.inference_mode():
        assert torch.allclose(segmenter(grey), segmenter.network(by_hand), atol=1e-5)


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (4, 4)])
def test_probabilities_sum_to_one_with_background_first(classes: int, channels: int) -> None:
    segmenter = _segmenter(classes=classes).eval()
    grey = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        logits = segmenter(grey)
    assert logits.shape == (1, channels, 32, 32)
    probabilities = probabilities_of(logits)
    assert probabilities.shape == (1, classes, 32, 32)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(1, 32, 32), atol=1e-5)


def test_a_class_map_follows_the_threshold_for_one_class_and_the_likeliest_for_more() -> None:
    foreground = torch.tensor([[0.2, 0.6], [0.8, 0.5]]).logit()[None, None]
    assert class_map(foreground).tolist() == [[[0, 1], [1, 0]]]
    assert class_map(foreground, threshold=0.7).tolist() == [[[0, 0], [1, 0]]]
    assert class_map(torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1)).tolist() == [[[1]]]


def test_the_loss_of_one_class_is_that_of_the_library() -> None:
    logits, truth = torch.randn(3, 1, 16, 16), torch.randint(0, 2, (3, 16, 16))
    dice = smp.losses.DiceLoss("binary", from_logits=True)(logits, truth[:, None])
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth[:, None].float())
    assert segmentation_loss(logits, truth) == pytest.approx(float(dice + cross_entropy), abs=1e-5)


def test_the_loss_falls_to_nothing_when_all_is_right_and_needs_no_foreground() -> None:
    for channels, classes in ((1, 2), (3, 3)):
        truth = torch.randint(0, classes, (2, 8, 8))
        right = functional.one_hot(truth, classes).movedim(-1, 1).float() * 100 - 50
        assert segmentation_loss(right[:, 1:] if channels == 1 else right, truth) < 1e-3
        empty = segmentation_loss(torch.zeros(2, channels, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long))
        assert torch.isfinite(empty)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_of_an_image_follows_from_its_bands(channels: int) -> None:
    classes = max(channels, 2)
    logits, truth = torch.randn(1, channels, 24, 16), torch.randint(0, classes, (1, 24, 16))
    bands = [slice(0, 5), slice(5, 6), slice(6, 24)]
    first, *rest = [LossSums.of(logits[:, :, rows], truth[:, rows]) for rows in bands]
    assert sum(rest, start=first).loss() == pytest.approx(float(segmentation_loss(logits, truth)), abs=1e-6)


PAIRS = [
    ("resnet18", "unet", "full"),
    ("resnet18", "unet", "half"),
    ("resnet18", "unetplusplus", "half"),
    ("resnet18", "fpn", "full"),
    ("resnet18", "fpn", "half"),
    ("casser", "unet", "full"),
]


@pytest.mark.parametrize(("architecture", "decoder", "width"), PAIRS)
def test_every_decoder_comes_back_from_its_file_and_answers_the_same(
    architecture: str, decoder: str, width: str
) -> None:
    channels = 1 if architecture == "casser" else 3
    segmenter = Segmenter(
        architecture=architecture,
        decoder=decoder,
        width=width,
        classes=3,
        mean=[0.5] * channels,
        deviation=[0.2] * channels,
    ).eval()
    facts = {"architecture": architecture, "decoder": decoder, "decoder_width": width, "classes": [0, 1, 2]}
    facts |= {"mean": [0.5] * channels, "deviation": [0.2] * channels}
    again = segmenter_from(Weights(segmenter.network.state_dict(), facts), source="segmenter.safetensors")
    grey = torch.rand(1, 1, 32, 64)
    with torch.inference_mode():
        logits = segmenter(grey)
        assert logits.shape == (1, 3, 32, 64)
        assert torch.equal(again(grey), logits)
        assert new_like(segmenter).eval()(grey).shape == logits.shape
        assert torch.equal(segmenter.decode(segmenter.encode(grey)), logits)


def test_a_file_from_before_there_was_a_choice_of_decoder_is_a_u_net() -> None:
    segmenter = _segmenter().eval()
    facts = {"architecture": "resnet18", "classes": [0, 255], "mean": [0.5, 0.4, 0.6], "deviation": [0.2, 0.3, 0.25]}
    again = segmenter_from(Weights(segmenter.network.state_dict(), facts), source="old.safetensors")
    grey = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(grey), segmenter(grey))


def test_weights_of_another_decoder_are_refused_by_name() -> None:
    facts = {"architecture": "resnet18", "decoder": "fpn", "classes": [0, 255], "mean": [0.5], "deviation": [0.2]}
    with pytest.raises(UserError, match=r"other\.safetensors do not fit a fpn on resnet18"):
        segmenter_from(Weights(_segmenter().network.state_dict(), facts), source="other.safetensors")


@pytest.mark.parametrize(
    ("architecture", "decoder", "width", "sentence"),
    [
        ("casser", "fpn", "full", "its own decoder"),
        ("casser", "unet", "half", "its own decoder"),
        ("resnet18", "linknet", "full", "no decoder linknet"),
        ("resnet19", "unet", "full", "no encoder called resnet19"),
    ],
)
def test_a_network_that_nobody_knows_is_refused(architecture: str, decoder: str, width: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        network_of(architecture=architecture, decoder=decoder, width=width, channels=3, outputs=1)


def test_a_frozen_casser_encoder_drops_nothing_out() -> None:
    segmenter = Segmenter(architecture="casser", classes=2, mean=[0.5], deviation=[0.2], frozen=True).train()
    grey = torch.rand(1, 1, 32, 32)
    one, two = segmenter.encode(grey), segmenter.encode(grey)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(p.requires_grad for p in segmenter.network.encoder.parameters())


def test_image_and_mask_get_the_same_geometry_and_no_mask_value_is_made_up() -> None:
    torch.manual_seed(5)
    masks = torch.zeros(16, 48, 48, dtype=torch.uint8)
    masks[:, 10:30, 5:20] = 3
    grey = (masks == 3).float()[:, None] * 0.6 + 0.2
    moved, moved_masks = augment(grey, masks)
    assert set(moved_masks.unique().tolist()) == {0, 3}
    assert moved.min() >= 0
    assert moved.max() <= 1
    # Brightness and contrast differ by sample, so each sample is held against its own middle.
    middle = (moved.amax((1, 2, 3), keepdim=True) + moved.amin((1, 2, 3), keepdim=True)) / 2
    assert ((moved > middle)[:, 0] == (moved_masks == 3)).float().mean() > 0.97
    assert len({tuple(m.flatten().tolist()) for m in moved_masks}) == 16, "each sample has its own geometry"


def test_the_same_random_state_gives_the_same_augmentation() -> None:
    grey, masks = torch.rand(4, 1, 32, 32), torch.randint(0, 2, (4, 32, 32))
    torch.manual_seed(9)
    first = augment(grey, masks)
    torch.manual_seed(9)
    again = augment(grey, masks)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize(("reduction", "size"), [(2, (64, 96)), (2, (32, 32)), (4, (128, 160))])
def test_a_network_of_half_the_resolution_sees_means_and_answers_at_full_size(
    reduction: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    sight: dict[str, Any] = {"architecture": "resnet18", "classes": 2, "mean": [0.5] * 3, "deviation": [0.2] * 3}
    reduced = Segmenter(**sight, width="half", reduction=reduction).eval()
    plain = Segmenter(**sight, width="half").eval()
    plain.network.load_state_dict(reduced.network.state_dict())
    grey = torch.rand(1, 1, *size)
    with torch.inference_mode():
        logits = reduced(grey)
        assert logits.shape == (1, 1, *size)
        small = functional.avg_pool2d(grey, reduction)
        room = tuple(-side % 32 for side in small.shape[-2:])
        filled = functional.pad(small, (0, room[1], 0, room[0]), mode="replicate")
        expected = functional.interpolate(plain(filled), scale_factor=reduction, mode="bilinear")
    torch.testing.assert_close(logits, expected[..., : size[0], : size[1]])
    facts = {"architecture": "resnet18", "decoder_width": "half", "classes": [0, 1], "reduction": reduction}
    facts |= {"mean": [0.5] * 3, "deviation": [0.2] * 3}
    again = segmenter_from(Weights(reduced.network.state_dict(), facts), source="segmenter.safetensors")
    with torch.inference_mode():
        assert torch.equal(again(grey), logits)
    assert new_like(again).reduction == reduction
