"""Augmentation: image and mask move together, each policy does what it says, and all chance can be repeated."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from ml_core.data.loading import augmentation
from ml_core.data.loading.augmentation import Policy, augment

POLICIES = get_args(Policy)


def _only_geometry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BLUR_SHARE", "DIHEDRAL_BRIGHTNESS", "DIHEDRAL_CONTRAST", "DIHEDRAL_GAMMA", "DIHEDRAL_NOISE"):
        monkeypatch.setattr(augmentation, name, 0.0)


def test_dihedral_shows_all_eight_ways_a_square_can_lie_and_the_mask_lies_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _only_geometry(monkeypatch)
    torch.manual_seed(1)
    # Every pixel has a value of its own, so that any mistake in the geometry shows.
    square = torch.arange(36, dtype=torch.uint8).view(6, 6)
    masks = square.repeat(400, 1, 1)
    grey, moved = augment(masks[:, None].float() / 36, masks, policy="dihedral")
    assert torch.allclose(grey[:, 0] * 36, moved.float(), atol=1e-3)
    expected = {
        tuple(torch.rot90(side, turns).flatten().tolist()) for side in (square, square.flip(0)) for turns in range(4)
    }
    assert len(expected) == 8
    found = [tuple(mask.flatten().tolist()) for mask in moved]
    assert set(found) == expected
    # 400 fair draws among eight: 50 each, and 20 or 85 would be more than four deviations off.
    assert all(20 < found.count(way) < 85 for way in expected)


def test_elastic_moves_image_and_mask_alike_and_no_two_samples_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _only_geometry(monkeypatch)
    torch.manual_seed(3)
    across = torch.linspace(-1, 1, 64)
    bowl = (across[:, None] ** 2 + across**2) / 2  # smooth, so that between two pixels little is lost
    grey, moved = augment(
        bowl.expand(64, 1, 64, 64).contiguous(), (bowl * 200).round().to(torch.uint8).repeat(64, 1, 1), policy="elastic"
    )
    assert (grey[:, 0] * 200 - moved.float()).abs().max() < 6
    areas = (moved < 10).float().mean(dim=(1, 2))  # a disk of a tenth of the half diagonal, squared: scaled with it
    assert 1.3 < areas.max() / areas.min() < 1.25**4 * 1.5
    assert len({tuple(mask.flatten().tolist()) for mask in moved}) == 64


def test_dihedral_draws_a_tone_for_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "BLUR_SHARE", 0.0)
    monkeypatch.setattr(augmentation, "DIHEDRAL_NOISE", 0.0)
    torch.manual_seed(2)
    grey = torch.linspace(0.1, 0.9, 64).expand(64, 1, 64, 64).contiguous()
    ranks = torch.arange(64, dtype=torch.uint8).expand(64, 64, 64).contiguous()
    toned, ranks = augment(grey, ranks, policy="dihedral")
    assert toned.min() >= 0
    assert toned.max() <= 1
    middles = toned.flatten(1).median(dim=1).values
    spreads = toned.flatten(1).std(dim=1)
    assert 0.05 < middles.std() < 0.25
    assert spreads.max() / spreads.min() > 1.5
    # A tone may saturate and never turns dark into bright.
    from_dark = ranks.flatten(1).argsort(dim=1)
    assert (toned.flatten(1).gather(1, from_dark).diff(dim=1) >= -1e-6).all()


def test_dihedral_noise_differs_by_sample_and_stays_within_its_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    _only_geometry(monkeypatch)
    monkeypatch.setattr(augmentation, "DIHEDRAL_NOISE", 0.04)
    torch.manual_seed(3)
    noisy, _ = augment(torch.full((32, 1, 64, 64), 0.5), torch.zeros(32, 64, 64, dtype=torch.uint8), policy="dihedral")
    strengths = (noisy - 0.5).flatten(1).std(dim=1)
    assert strengths.max() < 0.042
    assert strengths.max() / strengths.min() > 3
    assert (noisy.flatten(1).mean(dim=1) - 0.5).abs().max() < 0.003


def test_paper_leaves_the_tone_and_tone_does_not() -> None:
    torch.manual_seed(4)
    grey, masks = torch.full((8, 1, 32, 32), 0.3), torch.zeros(8, 32, 32, dtype=torch.uint8)
    plain, _ = augment(grey, masks, policy="paper")
    assert torch.allclose(plain, grey, atol=1e-5)
    toned, _ = augment(grey, masks, policy="tone")
    assert len(set(toned.flatten(1).mean(dim=1).tolist())) == 8


@pytest.mark.parametrize("policy", POLICIES)
def test_no_mask_value_is_made_up_and_shapes_and_types_stay(policy: Policy) -> None:
    torch.manual_seed(5)
    masks = torch.zeros(16, 48, 48, dtype=torch.uint8)
    masks[:, 10:30, 5:20] = 3
    grey, moved = augment(torch.rand(16, 1, 48, 48), masks, policy=policy)
    assert set(moved.unique().tolist()) == {0, 3}
    assert (grey.shape, moved.shape, moved.dtype) == ((16, 1, 48, 48), (16, 48, 48), torch.uint8)
    assert torch.isfinite(grey).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_random_state_gives_the_same_and_another_does_not(policy: Policy) -> None:
    grey, masks = torch.rand(4, 1, 32, 32), torch.randint(0, 2, (4, 32, 32))

    def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(seed)
        return augment(grey, masks, policy=policy)

    first, again, other = drawn(9), drawn(9), drawn(10)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
