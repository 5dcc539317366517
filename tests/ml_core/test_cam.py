"""Activation maps as a job makes them: of a segmenter and of a bare encoder, with their checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ml_core import weights
from ml_core.engine import open_context
from ml_core.inputs import Inputs, Slot
from ml_core.models import encoders
from ml_core.models.unet import Segmenter
from ml_core.recipes import cam
from ml_core.reporting import Stopped, UserError
from ml_core.specs import CamSpec
from tests.ml_core.disks import write_disks
from tests.ml_core.reporters import Heard

pytestmark = pytest.mark.slow  # runs networks: seconds each

FACTS = {"item", "image", "page", "method", "layer", "target", "confidence_drop", "random_correlation"}


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disks(tmp_path_factory.mktemp("disks") / "set", sizes=[(48, 70)] * 8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter for one class, one for three, and an encoder; their weights are random but fixed."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    for name, values, framing in (("two", [0, 255], "resize"), ("four", [0, 1, 2, 3], "crops")):
        facts = {"architecture": "resnet18", "mean": [0.5] * 3, "deviation": [0.2] * 3, "origin": "random"}
        segmenter = Segmenter(architecture="resnet18", classes=len(values), mean=[0.5] * 3, deviation=[0.2] * 3)
        facts |= {"classes": values, "framing": framing}
        weights.save(folder / f"{name}.safetensors", segmenter.network.state_dict(), facts=facts)
    kept = weights.Encoder(
        tensors=encoders.build("resnet18").state_dict(),
        architecture="resnet18",
        channels=3,
        mean=(0.5,) * 3,
        deviation=(0.2,) * 3,
        facts={"origin": "byol"},
    )
    weights.save_encoder(folder / "encoder.safetensors", kept)
    return folder


def _cam(folder: Path, dataset: Path, files: dict[str, Path], *, heard: Heard | None = None, **given: Any) -> Heard:
    heard = heard or Heard()
    folder.mkdir(exist_ok=True)
    slots = {"dataset": Slot("dataset", {"folder": str(dataset)})}
    slots |= {name: Slot(name, {"path": str(path)}) for name, path in files.items()}
    spec = CamSpec(**{"image_size": 64, "images": 2, **given})
    inputs = Inputs(prepared=folder / "prepared", slots=slots)
    cam.run(open_context(spec, inputs=inputs, folder=folder, reporter=heard))
    return heard


@pytest.mark.parametrize(
    ("slot", "file", "method", "layer"),
    [
        ("segmenter", "two", "gradcam", "decoder"),
        ("segmenter", "two", "gradcam", "layer3"),
        ("segmenter", "four", "gradcam", "layer2"),
        ("segmenter", "four", "eigencam", "decoder"),
        ("encoder", "encoder", "eigencam", "layer4"),
    ],
)
def test_every_map_has_the_images_size_its_sheet_and_its_checks(
    tmp_path: Path, disks: Path, models: Path, slot: str, file: str, method: str, layer: str
) -> None:
    heard = _cam(tmp_path, disks, {slot: models / f"{file}.safetensors"}, method=method, layer=layer)
    maps = [(path, facts) for kind, path, facts in heard.artifacts if kind == "cam"]
    sheets = [facts for kind, _, facts in heard.artifacts if kind == "cam_sheet"]
    assert len(maps) == 2
    assert [facts for _, facts in maps] == sheets
    for path, facts in maps:
        assert set(facts) == FACTS
        assert (facts["method"], facts["layer"]) == (method, layer)
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("L", (70, 48))
            values = np.asarray(picture)
        if facts["confidence_drop"] is None:
            assert values.max() == 0
        else:
            assert values.max() > 200
            assert -1 <= facts["confidence_drop"] <= 1
        assert facts["random_correlation"] is None or -1 <= facts["random_correlation"] <= 1
    assert heard.figures["images"] == 2
    assert heard.figures["method"] == method


def test_the_same_seed_draws_the_same_maps_and_checks(tmp_path: Path, disks: Path, models: Path) -> None:
    files = {"segmenter": models / "two.safetensors"}
    first = _cam(tmp_path / "one", disks, files, layer="decoder")
    torch.rand(5)
    again = _cam(tmp_path / "two", disks, files, layer="decoder")
    assert [facts for _, _, facts in first.artifacts] == [facts for _, _, facts in again.artifacts]
    pictures = [[path.read_bytes() for _, path, _ in heard.artifacts] for heard in (first, again)]
    assert pictures[0] == pictures[1]


def test_the_images_are_those_of_the_held_out_part(tmp_path: Path, disks: Path, models: Path) -> None:
    heard = _cam(tmp_path / "few", disks, {"segmenter": models / "two.safetensors"}, images=500)
    assert heard.figures["images"] == 2, "two of eight are kept for validation"


def test_grad_cam_of_a_bare_encoder_is_refused(tmp_path: Path, disks: Path, models: Path) -> None:
    with pytest.raises(UserError, match="choose a segmentation model, or EigenCAM"):
        _cam(tmp_path, disks, {"encoder": models / "encoder.safetensors"}, method="gradcam")


def test_a_bare_encoder_shows_its_last_stage_where_the_decoder_is_asked_for(
    tmp_path: Path, disks: Path, models: Path
) -> None:
    files = {"encoder": models / "encoder.safetensors"}
    heard = _cam(tmp_path, disks, files, method="eigencam", layer="decoder")
    assert heard.figures["layer"] == "layer4"
    assert any("no decoder" in text for _, text in heard.notes)


def test_an_encoders_file_is_not_taken_for_a_segmenter(tmp_path: Path, disks: Path, models: Path) -> None:
    with pytest.raises(UserError, match="not a segmentation model"):
        _cam(tmp_path, disks, {"segmenter": models / "encoder.safetensors"})


def test_a_stop_ends_it_before_the_next_map(tmp_path: Path, disks: Path, models: Path) -> None:
    heard = Heard()
    heard.stop = True
    with pytest.raises(Stopped, match="0 of 2 maps"):
        _cam(tmp_path, disks, {"segmenter": models / "two.safetensors"}, heard=heard)
    assert not heard.artifacts
