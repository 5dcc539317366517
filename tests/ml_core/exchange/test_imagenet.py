"""The ImageNet weights of torchvision: from a file, from the published address, or a sentence."""

from __future__ import annotations

import dataclasses
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from ml_core.errors import UserError
from ml_core.exchange import imagenet
from ml_core.job.files import sha256_of
from ml_core.models import encoders

pytestmark = pytest.mark.slow  # builds networks: seconds in all


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    """A state dict with torchvision's names and shapes, head included; old files have no counters."""
    torch.manual_seed(5)
    state = torchvision.models.resnet18().state_dict()
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


@pytest.fixture
def address(theirs: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has a pickle of `theirs` be what is published, at an address without a network."""
    path = tmp_path / "there" / "resnet18-published.pth"
    path.parent.mkdir()
    torch.save(theirs, path)
    file = dataclasses.replace(imagenet.FILES["resnet18"], address=path.as_uri(), hash_prefix=sha256_of(path)[:8])
    monkeypatch.setitem(imagenet.FILES, "resnet18", file)  # type: ignore[arg-type]
    return path


def _fits(found: Any, theirs: dict[str, Tensor]) -> None:
    encoder = encoders.build("resnet18")
    encoders.load_weights(encoder, found.tensors, architecture="resnet18", source="published")
    for name, value in encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, theirs[name]), name
    assert (found.architecture, found.channels) == ("resnet18", 3)
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.deviation == (0.229, 0.224, 0.225)
    assert found.facts["origin"] == "imagenet"


def test_the_addresses_and_hashes_are_those_of_torchvision() -> None:
    for name, weights in (
        ("resnet18", torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
        ("resnet50", torchvision.models.ResNet50_Weights.IMAGENET1K_V1),
    ):
        file = imagenet.FILES[name]
        assert file.address == weights.url
        assert file.name == f"{name}-{file.hash_prefix}.pth"
        transforms = weights.transforms()
        assert (tuple(transforms.mean), tuple(transforms.std)) == (imagenet.MEAN, imagenet.DEVIATION)


def test_they_are_fetched_once_and_kept(
    address: Path, theirs: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = tmp_path / "weights"
    _fits(imagenet.imagenet("resnet18", path=None, keep=keep), theirs)
    assert len(list(keep.iterdir())) == 1

    def unreachable(*_: Any, **__: Any) -> None:
        raise AssertionError("fetched a second time")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    _fits(imagenet.imagenet("resnet18", path=None, keep=keep), theirs)


def test_a_file_that_was_brought_in_serves_as_well(address: Path, theirs: dict[str, Tensor], tmp_path: Path) -> None:
    _fits(imagenet.imagenet("resnet18", path=address, keep=tmp_path), theirs)
    save_file(theirs, tmp_path / "theirs.safetensors")
    _fits(imagenet.imagenet("resnet18", path=tmp_path / "theirs.safetensors", keep=tmp_path), theirs)


def test_another_file_at_the_address_is_not_kept(address: Path, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.ones(1)}, address)
    with pytest.raises(UserError, match="is not the published file and was not kept"):
        imagenet.imagenet("resnet18", path=None, keep=tmp_path / "weights")
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_pickle_that_is_not_the_published_one_is_not_opened(
    address: Path, theirs: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({**theirs, "fc.bias": torch.ones(1000)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="neither the published weights of resnet18"):
        imagenet.imagenet("resnet18", path=tmp_path / "other.pth", keep=tmp_path)


def test_without_a_network_the_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(UserError, match=r"Download https://download\.pytorch\.org/models/resnet50-0676ba61\.pth"):
        imagenet.imagenet("resnet50", path=None, keep=tmp_path)


def test_an_architecture_without_published_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Take resnet18 or resnet50"):
        imagenet.imagenet("attention50", path=None, keep=tmp_path)


def test_weights_of_another_network_are_refused_by_the_first_mismatch(
    address: Path, theirs: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file({**theirs, "bn1.weight": torch.ones(32)}, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=r"first bn1\.weight is \(32,\) and not \(64,\)"):
        imagenet.imagenet("resnet18", path=tmp_path / "wrong.safetensors", keep=tmp_path)
