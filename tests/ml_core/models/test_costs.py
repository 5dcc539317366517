"""Parameters, multiply-adds and memory are counted right, and `describe` says them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from ml_core.__main__ import main
from ml_core.errors import UserError
from ml_core.models import costs, encoders
from ml_core.models.stand_alone_attention import StandAloneAttention
from ml_core.runtime import profiler, weights
from ml_core.specs import from_preset

pytestmark = pytest.mark.slow  # builds networks: seconds in all


@pytest.mark.parametrize(
    ("architecture", "published"),
    [("resnet18", torchvision.models.ResNet18_Weights), ("resnet50", torchvision.models.ResNet50_Weights)],
)
def test_multiply_adds_and_parameters_are_those_that_torchvision_publishes(architecture: str, published: Any) -> None:
    cost = costs.of_encoder(architecture, size=224)
    meta = published.IMAGENET1K_V1.meta
    features = encoders.feature_size(encoders.build(architecture))
    assert round((cost.multiply_adds + 1000 * features) / 1e9, 3) == meta["_ops"]
    assert cost.parameters + 1000 * (features + 1) == meta["num_params"]


@pytest.mark.parametrize("side", [8, 24])  # as a whole, and by shifts
def test_attention_counts_what_its_formula_asks_for_however_it_is_computed(side: int) -> None:
    layer = StandAloneAttention(16, 32, kernel_size=7, heads=4)
    with profiler.without_numbers(layer):
        adds = profiler.multiply_adds(nn.Sequential(layer), torch.empty(2, 16, side, side))
        alone = profiler.multiply_adds(layer, torch.empty(2, 16, side, side))
    convolutions = 3 * 16 * 32
    window = 2 * 49 * 32  # q . k, and the sum of values
    positions = 7 * 32  # rows against half of the depth, columns against the other half
    assert adds == alone == 2 * side * side * (convolutions + window + positions)


def _sum(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return network(x).sum()


def test_what_is_kept_for_the_backward_pass_is_what_autograd_saves() -> None:
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
    for batch in (4, 4000):
        with profiler.without_numbers(network):
            x = torch.empty(batch, 64)
            memory = profiler.training_memory(network, functools.partial(_sum, network, x))
        # The input, for the first layer; the ReLU's output, for itself and the second layer.
        assert memory.kept == batch * (64 + 32) * 4
        numbers = 64 * 32 + 32 + 32 * 16 + 16
        assert (memory.weights, memory.gradients, memory.optimizer) == (4 * numbers, 4 * numbers, 8 * numbers)


def test_a_real_pass_saves_what_the_pass_without_numbers_says() -> None:
    network = encoders.build("resnet18").train()
    x = torch.rand(2, 3, 64, 64)
    real = profiler.training_memory(network, lambda: network(x)[-1].sum())
    with profiler.without_numbers(network):
        y = torch.empty(2, 3, 64, 64)
        counted = profiler.training_memory(network, lambda: network(y)[-1].sum())
    assert real == counted


def test_a_frozen_encoder_keeps_and_trains_less() -> None:
    spec = from_preset("segment", "quick")
    whole = costs.of_spec(spec)
    frozen = costs.of_spec(spec.model_copy(update={"weights": "frozen"}))
    assert whole.memory is not None
    assert frozen.memory is not None
    assert frozen.parameters == whole.parameters == whole.trained
    assert frozen.trained == whole.trained - 11_176_512
    assert frozen.memory.kept < whole.memory.kept
    assert frozen.multiply_adds == whole.multiply_adds


def test_twice_the_batch_keeps_twice_as_much_and_bfloat16_less() -> None:
    spec = from_preset("pretrain", "quick", precision="float32", batch_size=8)
    one = costs.of_spec(spec).memory
    two = costs.of_spec(spec.model_copy(update={"batch_size": 16})).memory
    large = costs.of_spec(spec.model_copy(update={"batch_size": 256})).memory
    half = costs.of_spec(spec.model_copy(update={"batch_size": 256, "precision": "bfloat16"})).memory
    assert one is not None
    assert two is not None
    assert large is not None
    assert half is not None
    assert two.kept == pytest.approx(2 * one.kept, rel=0.01)
    assert (two.weights, two.optimizer) == (one.weights, one.optimizer)
    assert 0.4 < half.kept / large.kept < 0.75


@pytest.mark.parametrize("kind", ["pretrain", "segment", "classify", "train_colorizer"])
def test_every_kind_that_trains_a_network_can_be_described(kind: str) -> None:
    cost = costs.of_spec(from_preset(kind, "quick"))
    assert cost.parameters > 1e6
    assert cost.multiply_adds > 1e6


def test_a_kind_without_a_network_says_so() -> None:
    with pytest.raises(UserError, match="has no network of its own"):
        costs.of_spec(from_preset("cam", "quick"))


def test_describe_says_a_specification_a_model_and_an_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = from_preset("segment", "quick", batch_size=4)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    assert main(["describe", str(tmp_path / "spec.json")]) == 0
    said = capsys.readouterr().out
    assert "segment, preset quick with changes" in said
    assert "batch_size  4 (preset: 8)" in said
    assert "parameters     14,328,209, all trained" in said
    assert "in training, batch 4" in said

    encoder = encoders.build("resnet18", channels=1)
    kept = weights.Encoder(encoder.state_dict(), "resnet18", 1, (0.5,), (0.2,), {"origin": "byol", "image_size": 64})
    weights.save_encoder(tmp_path / "encoder.safetensors", kept)
    assert main(["describe", str(tmp_path / "encoder.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "encoder.safetensors: encoder, ResNet-18" in said
    assert "per image of 64 x 64" in said
    assert "byol" in said

    assert main(["describe", "resnet18", "--size", "128"]) == 0
    assert "11,176,512" in capsys.readouterr().out
    assert main(["describe", "nonsense"]) == 70
    assert "neither a specification" in capsys.readouterr().err
