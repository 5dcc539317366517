"""Casser et al.'s network, held against the table that it is built from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ml_core.models import encoders
from ml_core.models.casser_unet import Casser, CasserEncoder


def test_it_has_as_many_parameters_as_the_authors_program() -> None:
    assert sum(p.numel() for p in Casser().parameters()) == 1_958_533


def test_its_weights_are_drawn_as_he_et_al_say_and_its_biases_are_0() -> None:
    torch.manual_seed(0)
    for part in Casser().modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() > 10_000:
            inputs = part.weight[0].numel()
            assert part.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.03)
            assert not part.bias.any()


def test_its_encoder_is_one_of_the_encoders_and_gives_maps_of_its_widths() -> None:
    encoder = encoders.build("casser", channels=1)
    maps = encoder(torch.rand(2, 1, 64, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 64, 32), (32, 32, 16), (64, 16, 8), (128, 8, 4), (256, 4, 2)]
    assert list(encoder.out_channels) == [m.shape[1] for m in maps]
    assert encoders.feature_size(encoder) == 256
    assert encoders.features(encoder, torch.rand(2, 1, 64, 32)).shape == (2, 256)


def test_dropout_thins_the_two_deepest_maps_while_it_trains_and_no_other() -> None:
    torch.manual_seed(1)
    encoder = CasserEncoder().train()
    x = torch.rand(1, 1, 64, 64)
    training, again = encoder(x), encoder(x)
    assert [torch.equal(a, b) for a, b in zip(training, again, strict=True)] == [True, True, True, False, False]
    still = encoder.eval()(x)
    kept = training[3] != 0
    assert torch.allclose(training[3][kept], still[3][kept] / 0.8)
    assert 0.7 < float(kept.sum() / (still[3] != 0).sum()) < 0.9


def test_the_even_kernel_is_padded_below_and_on_the_right() -> None:
    """A 2x2 convolution that takes its upper left pixel must leave the doubled map as it is."""
    network = Casser().eval()
    seen: list[torch.Tensor] = []
    network.decoder.up[3].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.rand(1, 1, 32, 32))
    assert seen[0].shape == (1, 256, 5, 5)
    assert not seen[0][:, :, -1].any()
    assert not seen[0][:, :, :, -1].any()
    assert torch.equal(seen[0][:, :, 0, 0], seen[0][:, :, 1, 1])


def test_several_classes_pass_through_as_many_channels() -> None:
    assert Casser(classes=4)(torch.rand(1, 1, 32, 48)).shape == (1, 4, 32, 48)
