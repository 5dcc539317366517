"""Encoders from elsewhere come in whole, with the facts of their training, and no pickle runs anything."""

from __future__ import annotations

import os
import pickle
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from ml_core.__main__ import main
from ml_core.errors import UserError
from ml_core.exchange.conversion import LAYOUTS, convert
from ml_core.exchange.state_dicts import encoder_in
from ml_core.models import encoders
from ml_core.runtime import weights

pytestmark = pytest.mark.slow  # builds networks: seconds in all


@pytest.fixture(scope="module")
def grey() -> dict[str, Tensor]:
    """A ResNet-18 with a stem of one channel, without its head, by torchvision's names."""
    torch.manual_seed(2)
    network = torchvision.models.resnet18()
    network.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}


@pytest.fixture(scope="module")
def colour() -> dict[str, Tensor]:
    """A ResNet-18 of three channels, head included."""
    torch.manual_seed(3)
    return dict(torchvision.models.resnet18().state_dict())


def _is(found: weights.Encoder, theirs: dict[str, Tensor]) -> None:
    encoder = encoders.build(found.architecture, channels=found.channels)
    encoders.load_weights(encoder, found.tensors, architecture=found.architecture, source="converted")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_cem500k_mocov2_comes_in_with_its_one_channel_and_its_own_norms(
    grey: dict[str, Tensor], tmp_path: Path
) -> None:
    # The query encoder counts; the key encoder has the same names and other numbers.
    state = {f"module.encoder_k.{name}": value + 1 for name, value in grey.items()}
    state |= {f"module.encoder_q.{name}": value for name, value in grey.items()}
    state |= {"module.encoder_q.fc.0.weight": torch.ones(4, 4), "module.queue": torch.ones(128, 8)}
    path = tmp_path / "cem500k_mocov2_resnet50_200ep.pth.tar"
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state, "norms": [0.5729, 0.1275]}, path)
    found = convert(path)
    _is(found.encoder, grey)
    assert (found.encoder.architecture, found.encoder.channels) == ("resnet18", 1)
    assert (found.encoder.mean, found.encoder.deviation) == ((0.5729,), (0.1275,))
    assert found.prefix == "module.encoder_q."
    assert set(found.dropped) == {"module.encoder_k", "module.encoder_q.fc", "module.queue"}
    assert found.encoder.facts["origin"] == "imported"
    assert "CEM500K" in found.encoder.facts["source"]


def test_a_resnet50_of_one_channel_is_known_by_its_shapes() -> None:
    with torch.device("meta"):
        network = torchvision.models.resnet50()
        network.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, bias=False)
    state = {f"module.encoder_q.{name}": torch.zeros(()).expand(v.shape) for name, v in network.state_dict().items()}
    found = encoder_in(state, source="cem500k.pth")
    assert (found.architecture, found.channels, found.dropped) == ("resnet50", 1, ("module.encoder_q.fc",))


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_cem1_5m_swav_comes_in_without_its_heads(grey: dict[str, Tensor], tmp_path: Path, prefix: str) -> None:
    state = {f"{prefix}{name}": value for name, value in grey.items()}
    state |= {f"{prefix}projection_head.0.weight": torch.ones(3, 3), f"{prefix}prototypes.weight": torch.ones(3, 3)}
    path = tmp_path / "cem1.5m_swav_resnet50_200ep_balanced.pth.tar"
    torch.save({"state_dict": state}, path)
    found = convert(path)
    _is(found.encoder, grey)
    assert (found.encoder.mean, found.encoder.deviation) == ((0.57571,), (0.12765,))
    assert set(found.dropped) == {f"{prefix}projection_head", f"{prefix}prototypes"}


def test_the_command_writes_a_file_that_a_job_can_take(
    grey: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {f"module.{name}": value for name, value in grey.items()}}, tmp_path / "own.pth")
    out = tmp_path / "encoder.safetensors"
    assert main(["convert", str(tmp_path / "own.pth"), "--layout", "cem1.5m-swav", "--out", str(out)]) == 0
    encoder = weights.load_encoder(out)
    _is(encoder, grey)
    assert (encoder.channels, encoder.mean) == (1, (0.57571,))
    assert "taken from module.*" in capsys.readouterr().out


def test_a_safetensors_file_without_metadata_needs_mean_and_deviation(
    colour: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "theirs.safetensors", tmp_path / "encoder.safetensors"
    save_file(colour, path)
    assert main(["convert", str(path), "--out", str(out)]) == 70
    assert "does not say the mean" in capsys.readouterr().err
    given = ["--mean", "0.4,0.5,0.6", "--deviation", "0.2"]
    assert main(["convert", str(path), "--out", str(out), *given]) == 0
    encoder = weights.load_encoder(out)
    _is(encoder, colour)
    assert (encoder.architecture, encoder.mean, encoder.deviation) == ("resnet18", (0.4, 0.5, 0.6), (0.2,) * 3)


def test_names_of_a_segmentation_model_give_its_encoder(colour: dict[str, Tensor], tmp_path: Path) -> None:
    state = {f"encoder.{name}": value for name, value in colour.items() if not name.startswith("fc.")}
    state["decoder.blocks.0.conv1.0.weight"] = torch.ones(2)
    torch.save(state, tmp_path / "unet.pth")
    found = convert(tmp_path / "unet.pth", layout="torchvision")
    _is(found.encoder, colour)
    assert found.dropped == ("decoder",)
    # The names alone do not make it ImageNet's.
    assert found.encoder.facts["origin"] == "imported"


def test_half_precision_comes_in_as_float32(colour: dict[str, Tensor], tmp_path: Path) -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in colour.items()}
    save_file(half, tmp_path / "half.safetensors")
    found = convert(tmp_path / "half.safetensors", layout="torchvision")
    assert found.encoder.tensors["conv1.weight"].dtype == torch.float32
    assert torch.allclose(found.encoder.tensors["conv1.weight"], colour["conv1.weight"], atol=1e-3)


def test_another_network_is_refused_by_its_first_mismatch(colour: dict[str, Tensor], tmp_path: Path) -> None:
    deeper = {**colour, "layer1.2.conv1.weight": torch.ones(64, 64, 3, 3)}
    torch.save(deeper, tmp_path / "deeper.pth")
    with pytest.raises(UserError, match=r"do not fit a resnet18; differences: 1, first layer1\.2\.conv1\.weight"):
        convert(tmp_path / "deeper.pth", layout="torchvision")
    lacking = {name: value for name, value in colour.items() if name != "layer3.0.bn1.weight"}
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(UserError, match=r"layer3\.0\.bn1\.weight is missing"):
        convert(tmp_path / "lacking.pth", layout="torchvision", architecture="resnet18")
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "none.pth")
    with pytest.raises(UserError, match="There is no encoder in"):
        convert(tmp_path / "none.pth", layout="torchvision")


def test_two_encoders_in_one_file_must_be_told_apart(colour: dict[str, Tensor], tmp_path: Path) -> None:
    both = {f"left.{name}": value for name, value in colour.items()}
    both |= {f"right.{name}": value + 1 for name, value in colour.items()}
    torch.save(both, tmp_path / "both.pth")
    with pytest.raises(UserError, match=r"'left\.', 'right\.'\. Say which with --prefix"):
        convert(tmp_path / "both.pth", layout="torchvision")
    found = convert(tmp_path / "both.pth", layout="torchvision", prefix="left.")
    _is(found.encoder, colour)


def test_channels_and_constants_must_agree(grey: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(grey, tmp_path / "grey.pth")
    with pytest.raises(UserError, match="has 1 channels, and the mean has 3 values"):
        convert(tmp_path / "grey.pth", layout="torchvision")
    with pytest.raises(UserError, match="greater than 0"):
        convert(tmp_path / "grey.pth", mean=[0.5], deviation=[0.0])


@pytest.mark.parametrize("body", [b"", b"not a file of weights", b"PK\x03\x04", b"\x80\x02.", b"\xff" * 64])
def test_what_is_no_file_of_weights_is_a_sentence(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(body)
    with pytest.raises(UserError, match=r"x\.pth"):
        convert(tmp_path / "x.pth", layout="torchvision")


def test_the_help_names_the_layouts_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in LAYOUTS)


class _Trap:
    """Unpickled, it calls `call(*arguments)`."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._call, self._arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call, self._arguments


# Ten ways to have something happen: here, that the file `sprung` comes to be; `script` makes it when it is run.
TRAPS: dict[str, Callable[[Path, Path], _Trap]] = {
    "os.system": lambda sprung, script: _Trap(os.system, f"touch {sprung}"),
    "subprocess": lambda sprung, script: _Trap(subprocess.check_call, ["touch", str(sprung)]),
    "exec": lambda sprung, script: _Trap(exec, script.read_text()),
    "eval": lambda sprung, script: _Trap(eval, script.read_text()),
    "open": lambda sprung, script: _Trap(open, str(sprung), "w"),
    "touch": lambda sprung, script: _Trap(Path.touch, sprung),
    "runpy": lambda sprung, script: _Trap(runpy.run_path, str(script)),
    "copy": lambda sprung, script: _Trap(shutil.copy, str(script), str(sprung)),
    "mkdir": lambda sprung, script: _Trap(os.mkdir, str(sprung)),
    "symlink": lambda sprung, script: _Trap(os.symlink, str(script), str(sprung)),
}


def _legacy(body: object, path: Path) -> None:
    torch.save(body, path, _use_new_zipfile_serialization=False)


CONTAINERS: dict[str, Callable[[object, Path], None]] = {
    "raw": lambda body, path: path.write_bytes(pickle.dumps(body, protocol=2)) and None,
    "zip": lambda body, path: torch.save(body, path),
    "legacy": _legacy,
}


def _trap(name: str, folder: Path) -> tuple[_Trap, Path]:
    sprung, script = folder / "sprung", folder / "script.py"
    script.write_text(f"open({str(sprung)!r}, 'w').close()")
    return TRAPS[name](sprung, script), sprung


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", TRAPS)
def test_a_pickle_with_code_is_refused_and_runs_nothing(tmp_path: Path, name: str, container: str) -> None:
    trap, sprung = _trap(name, tmp_path)
    CONTAINERS[container]({"state_dict": {"conv1.weight": torch.ones(1), "trap": trap}}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="It was not opened"):
        convert(tmp_path / "x.pth", layout="torchvision")
    assert not os.path.lexists(sprung)


@pytest.mark.parametrize("name", TRAPS)
def test_each_of_these_traps_would_spring_where_pickles_are_simply_opened(tmp_path: Path, name: str) -> None:
    trap, sprung = _trap(name, tmp_path)
    pickle.loads(pickle.dumps(trap))
    assert os.path.lexists(sprung)
