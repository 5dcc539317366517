"""The U-Net on an encoder: what frozen means, its loss, tiles without seams, and augmentation of pairs."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from ml_core.data.augmentation import augment
from ml_core.models.tiles import predict_tiled
from ml_core.models.unet import Segmenter, class_map, probabilities_of, segmentation_loss


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


@pytest.mark.parametrize("shape", [(64, 64), (65, 130), (20, 200), (10, 10)])
def test_tiles_of_a_pointwise_model_join_without_a_seam(shape: tuple[int, int]) -> None:
    grey = torch.rand(1, *shape)
    sizes: list[tuple[int, ...]] = []

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(tiles.shape))
        return torch.cat([1 - tiles, tiles], dim=1)

    joined = predict_tiled(predict, grey, tile=32, overlap=8, batch_size=3)
    assert joined.shape == (2, *shape)
    assert torch.allclose(joined[1], grey[0], atol=1e-5)
    assert all(size[0] <= 3 and size[1:] == (1, 32, 32) for size in sizes)


def test_a_tile_counts_least_at_its_border() -> None:
    """A model that is wrong on the rim of each tile is outvoted where tiles overlap."""
    grey = torch.zeros(1, 32, 80)

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        answer = torch.zeros_like(tiles)
        answer[..., :2] = answer[..., -2:] = 1
        return answer

    joined = predict_tiled(predict, grey, tile=32, overlap=16, batch_size=8)
    assert joined[0, :, 4:-4].max() < 0.2


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
