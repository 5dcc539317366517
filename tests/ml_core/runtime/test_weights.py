"""Weights travel with the facts without which they mean nothing, and can run no code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from ml_core.errors import UserError
from ml_core.job.files import sha256_of
from ml_core.models import encoders
from ml_core.runtime import weights

FACTS = {"architecture": "resnet18", "channels": 3, "mean": [0.5] * 3, "deviation": [0.25] * 3, "origin": "byol"}


def test_an_encoder_comes_back_as_it_went(tmp_path: Path) -> None:
    encoder = encoders.build("resnet18")
    kept = weights.Encoder(encoder.state_dict(), "resnet18", 3, (0.5,) * 3, (0.25,) * 3, {"origin": "byol", "step": 7})
    digest = weights.save_encoder(tmp_path / "e.safetensors", kept)
    assert digest == sha256_of(tmp_path / "e.safetensors")
    found = weights.load_encoder(tmp_path / "e.safetensors")
    assert (found.architecture, found.channels, found.mean, found.deviation) == ("resnet18", 3, (0.5,) * 3, (0.25,) * 3)
    assert found.facts == {"origin": "byol", "step": 7}
    other = encoders.build("resnet18")
    encoders.load_weights(other, found.tensors, architecture="resnet18", source="e.safetensors")
    for name, value in encoder.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


@pytest.mark.parametrize("fact", ["byol", "12", "1e5", "null", '"quoted"', 12, 0.25, None, [1, 2], {"a": "b"}, ""])
def test_a_fact_comes_back_as_what_it_was(tmp_path: Path, fact: object) -> None:
    weights.save(tmp_path / "w.safetensors", {"w": torch.ones(2)}, facts={"fact": fact})
    assert weights.load(tmp_path / "w.safetensors").facts == {"fact": fact}


def test_the_same_weights_are_the_same_file(tmp_path: Path) -> None:
    tensors = {name: torch.full((3,), float(number)) for number, name in enumerate("abcdef")}
    digests = {weights.save(tmp_path / f"{n}.safetensors", tensors, facts=FACTS) for n in range(8)}
    assert len(digests) == 1
    assert torch.equal(weights.load(tmp_path / "0.safetensors").tensors["f"], tensors["f"])


@pytest.mark.parametrize("missing", ["architecture", "channels", "mean", "deviation"])
def test_an_encoder_that_does_not_say_how_it_sees_is_refused(tmp_path: Path, missing: str) -> None:
    facts = {name: value for name, value in FACTS.items() if name != missing}
    weights.save(tmp_path / "e.safetensors", {"w": torch.ones(2)}, facts=facts)
    with pytest.raises(UserError, match=f"does not say its {missing}"):
        weights.load_encoder(tmp_path / "e.safetensors")


@pytest.mark.parametrize("fault", [{"mean": [0.5]}, {"deviation": [0.2, 0, 0.2]}, {"channels": "three"}])
def test_facts_that_cannot_be_are_refused(tmp_path: Path, fault: dict[str, object]) -> None:
    weights.save(tmp_path / "e.safetensors", {"w": torch.ones(2)}, facts={**FACTS, **fault})
    with pytest.raises(UserError):
        weights.load_encoder(tmp_path / "e.safetensors")


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("/tmp/cristae-trap-sprung"),))  # type: ignore[return-value]


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04", pickle.dumps(_Trap()), b"\xff" * 64])
def test_a_file_that_is_not_safetensors_is_refused_and_runs_nothing(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "e.safetensors").write_bytes(body)
    with pytest.raises(UserError, match="not a whole safetensors file"):
        weights.load_encoder(tmp_path / "e.safetensors")
    assert not Path("/tmp/cristae-trap-sprung").exists()


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        weights.load(tmp_path / "none.safetensors")


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(UserError, match="do not fit a resnet18"):
        encoders.load_weights(
            encoders.build("resnet18"), {"conv1.weight": torch.ones(1)}, architecture="resnet18", source="e.safetensors"
        )
    with pytest.raises(UserError, match="there are: resnet18, resnet50"):
        encoders.build("vgg")
