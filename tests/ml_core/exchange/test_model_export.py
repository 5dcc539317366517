"""A trained model leaves for other programs and says the same there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ml_core.__main__ import main
from ml_core.errors import UserError
from ml_core.exchange import model_export
from ml_core.models import encoders
from ml_core.models.colorizers.trained import TrainedColorizer
from ml_core.models.linear_classifier import Classifier
from ml_core.models.trained_model import EncoderModel, load_model
from ml_core.models.unet import Segmenter
from ml_core.runtime import weights

pytestmark = pytest.mark.slow  # networks are built, traced and run: seconds each

SIGHT: dict[str, Any] = {"mean": [0.4], "deviation": [0.2]}


def _encoder(folder: Path, architecture: str, *, channels: int = 3) -> Path:
    torch.manual_seed(1)
    encoder = encoders.build(architecture, channels=channels).train()
    with torch.no_grad():
        encoder(torch.rand(4, channels, 32, 32))  # BatchNorm statistics of its own
    sight = {name: value * channels for name, value in SIGHT.items()}
    facts = {"architecture": architecture, "channels": channels, **sight, "origin": "byol", "image_size": 64}
    weights.save(folder / f"{architecture}.safetensors", encoder.state_dict(), facts=facts)
    return folder / f"{architecture}.safetensors"


def _segmenter(folder: Path, architecture: str, *, decoder: str = "unet", classes: int = 2, channels: int = 3) -> Path:
    torch.manual_seed(1)
    sight = {name: value * channels for name, value in SIGHT.items()}
    segmenter = Segmenter(architecture=architecture, classes=classes, decoder=decoder, **sight)
    facts = {"architecture": architecture, **sight, "classes": list(range(classes)), "decoder": decoder}
    path = folder / f"{architecture}-{decoder}.safetensors"
    weights.save(path, segmenter.network.state_dict(), facts={**facts, "mask_layer": "m", "image_size": 64})
    return path


def _classifier(folder: Path) -> Path:
    torch.manual_seed(1)
    sight = {name: value * 3 for name, value in SIGHT.items()}
    names = ["muscle", "nerve", "liver"]
    classifier = Classifier(architecture="resnet18", classes=names, image_size=64, **sight)
    facts = {"architecture": "resnet18", **sight, "classes": names, "image_size": 64}
    weights.save(folder / "classifier.safetensors", classifier.state_dict(), facts=facts)
    return folder / "classifier.safetensors"


def _grey(size: int = 32) -> Tensor:
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(7))


def _same_graph(path: Path, graph: Path, *, size: int) -> None:
    model = load_model(path)
    with torch.no_grad():
        there = torch.export.load(graph).module()(_grey(size))
        here = model.module(_grey(size))
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


def test_an_encoder_leaves_as_a_graph_with_its_normalisation_and_facts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, graph = _encoder(tmp_path, "attention26"), tmp_path / "x.pt2"
    assert main(["export", str(path), "--out", str(graph), "--size", "32"]) == 0
    assert "(1, 1, 32, 32) in 0..1 to features" in capsys.readouterr().out
    _same_graph(path, graph, size=32)
    held = {model_export.FACTS: ""}
    torch.export.load(graph, extra_files=held)
    facts = json.loads(held[model_export.FACTS])
    assert (facts["kind"], facts["size"], facts["origin"], facts["mean"]) == ("encoder", 32, "byol", [0.4] * 3)


def test_a_classifier_leaves_as_a_graph(tmp_path: Path) -> None:
    path = _classifier(tmp_path)
    assert model_export.export_graph(load_model(path), tmp_path / "x.pt2", size=32) < 1e-5
    _same_graph(path, tmp_path / "x.pt2", size=32)


def test_a_network_that_no_library_has_leaves_as_a_graph(tmp_path: Path) -> None:
    path = _segmenter(tmp_path, "casser", channels=1)
    assert model_export.export_graph(load_model(path), tmp_path / "x.pt2", size=32) < 1e-5
    _same_graph(path, tmp_path / "x.pt2", size=32)


def test_a_graph_that_says_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _encoder(tmp_path, "casser", channels=1)
    said = EncoderModel.forward
    monkeypatch.setattr(EncoderModel, "forward", lambda self, grey: said(self, grey) + torch.rand(1))
    with pytest.raises(UserError, match="differs from the model by"):
        model_export.export_graph(load_model(path), tmp_path / "x.pt2", size=32)
    assert not (tmp_path / "x.pt2").exists()


@pytest.mark.parametrize("layout", ["torchvision", "smp"])
@pytest.mark.parametrize("made", ["encoder", "grey encoder", "segmenter", "classes", "classifier", "attention"])
def test_the_lines_that_are_printed_load_the_weights_to_the_last_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, layout: str
) -> None:
    path = {
        "encoder": lambda: _encoder(tmp_path, "resnet18"),
        "grey encoder": lambda: _encoder(tmp_path, "resnet18", channels=1),
        "segmenter": lambda: _segmenter(tmp_path, "resnet18"),
        "classes": lambda: _segmenter(tmp_path, "resnet18", decoder="fpn", classes=3),
        "classifier": lambda: _classifier(tmp_path),
        "attention": lambda: _encoder(tmp_path, "attention26"),
    }[made]()
    model = load_model(path)
    if (made, layout) == ("attention", "torchvision"):
        with pytest.raises(UserError, match="torchvision has no attention26"):
            model_export.export_state(model, tmp_path / "there.safetensors", layout=layout)
        return
    lines = model_export.export_state(model, tmp_path / "there.safetensors", layout=layout)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)  # load_state_dict is strict
    theirs = names["model"].eval()
    with torch.no_grad():
        x = (_grey() - 0.4) / 0.2
        said = theirs(x.expand(-1, 1 if made == "grey encoder" else 3, -1, -1))
        here = model.module(_grey())
        if isinstance(said, list):  # the maps of a bare encoder
            said = said[-1].mean(dim=(2, 3))
            here = model.module.features(_grey()) if made == "classifier" else here
    if not (layout == "torchvision" and made in ("segmenter", "classes")):  # there the encoder alone leaves
        torch.testing.assert_close(said, here, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--format", "torchscript", "--out", "x.pt"], "TorchScript is not offered"),
        (["--format", "onnx", "--out", "x.onnx"], "There is no format onnx"),
        (["--format", "smp", "--out", "x.pt2"], "ends in .safetensors"),
        (["--out", "x.pt2", "--size", "100"], "must be a multiple of 32, and 100 is not. Take 96"),
        (["--out", "x.pt2", "--batch", "0"], "The batch must be of 1 image or more, and 0 is not."),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main(["export", str(_encoder(tmp_path, "resnet18")), *options]) == 70
    assert sentence in capsys.readouterr().err


def test_the_smp_library_has_no_casser_network(tmp_path: Path) -> None:
    model = load_model(_segmenter(tmp_path, "casser", channels=1))
    with pytest.raises(UserError, match="has no Casser network"):
        model_export.export_state(model, tmp_path / "x.safetensors", layout="smp")


def test_a_colorizer_leaves_as_a_graph_and_no_other_library_has_names_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    colorizer = TrainedColorizer()
    path, graph = tmp_path / "colorizer.safetensors", tmp_path / "x.pt2"
    weights.save(path, colorizer.state_dict(), facts={**colorizer.facts(), "image_size": 64})
    assert main(["export", str(path), "--out", str(graph), "--size", "32"]) == 0
    assert "(1, 1, 32, 32) in 0..1 to the colours a and b of CIE Lab" in capsys.readouterr().out
    _same_graph(path, graph, size=32)
    assert main(["describe", str(path)]) == 0
    assert "colorizer" in capsys.readouterr().out
    for layout in ("smp", "torchvision"):
        assert main(["export", str(path), "--out", str(tmp_path / "x.safetensors"), "--format", layout]) == 70
        assert f"{layout} has no network that colorizes. Take --format torch-export." in capsys.readouterr().err
