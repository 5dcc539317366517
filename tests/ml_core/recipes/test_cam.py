"""Activation maps as a job makes them: of a segmenter and of a bare encoder, with their checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ml_core.data.loading.classification_data import labelled
from ml_core.data.manifests.folder_manifest import from_folder
from ml_core.data.manifests.splits import split
from ml_core.errors import Stopped, UserError
from ml_core.job.inputs import Inputs, Slot
from ml_core.models import encoders
from ml_core.models.linear_classifier import Classifier
from ml_core.models.unet import Segmenter
from ml_core.recipes import cam
from ml_core.runtime import weights
from ml_core.runtime.training_loop import open_context
from ml_core.specs import CamSpec
from ml_core.specs.cam import METHOD_NAMES
from tests.ml_core.disks import write_disks
from tests.ml_core.reporters import Heard
from tests.ml_core.textures import write_textures

pytestmark = pytest.mark.slow  # runs networks: seconds each

FACTS = {"item", "image", "page", "method", "layer", "target"}
FACTS |= {"confidence_drop", "random_correlation", "random_correlation_limit"}


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
    for name, architecture, decoder in (("casser", "casser", "unet"), ("fpn", "attention26", "fpn")):
        tone = {"mean": [0.5], "deviation": [0.2]}
        segmenter = Segmenter(architecture=architecture, decoder=decoder, classes=2, **tone)
        facts = {"architecture": architecture, "decoder": decoder, "classes": [0, 255], "framing": "resize", **tone}
        weights.save(folder / f"{name}.safetensors", segmenter.network.state_dict(), facts=facts)
    classifier = Classifier(
        architecture="resnet18", classes=("mouse", "human"), mean=[0.5] * 3, deviation=[0.2] * 3, image_size=64
    )
    facts = {"architecture": "resnet18", "mean": [0.5] * 3, "deviation": [0.2] * 3, "image_size": 64}
    facts |= {"classes": ["mouse", "human"], "split": "dataset", "seed": 0}
    weights.save(folder / "classifier.safetensors", classifier.state_dict(), facts=facts)
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
        ("classifier", "classifier", "gradcam", "layer3"),
        ("classifier", "classifier", "eigencam", "layer4"),
        ("segmenter", "casser", "gradcam", "decoder"),
        ("segmenter", "fpn", "gradcam", "decoder"),
        ("segmenter", "two", "gradcamplusplus", "layer3"),
        ("segmenter", "four", "layercam", "layer2"),
        ("segmenter", "two", "scorecam", "decoder"),
        ("classifier", "classifier", "gradcamplusplus", "layer4"),
        ("classifier", "classifier", "layercam", "layer3"),
        ("classifier", "classifier", "scorecam", "layer2"),
    ],
)
def test_every_map_has_the_images_size_its_sheet_and_its_checks(
    tmp_path: Path, disks: Path, models: Path, slot: str, file: str, method: str, layer: str
) -> None:
    heard = _cam(tmp_path, disks, {slot: models / f"{file}.safetensors"}, method=method, layer=layer)
    maps = [(path, facts) for kind, path, facts in heard.artifacts if kind == "cam"]
    sheets = [facts for kind, _, facts in heard.artifacts if kind == "cam_sheet"]
    assert len(maps) == 2
    for panels in [facts.pop("panels") for facts in sheets]:
        assert layer in panels["rows"][0]["words"], "a page says it from here: words in a picture shrink with it"
        assert [column["words"] for column in panels["columns"]][::3] == ["image", "same, from random weights"]
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


def test_a_segmenters_maps_are_of_images_that_it_has_not_learned_from(
    tmp_path: Path, disks: Path, models: Path
) -> None:
    found = weights.load(models / "two.safetensors")
    rule = {"mask_layer": "mitochondria", "split": "random", "validation_share": 0.5, "seed": 7}
    weights.save(tmp_path / "ours.safetensors", found.tensors, facts={**found.facts, **rule})
    heard = _cam(tmp_path / "out", disks, {"segmenter": tmp_path / "ours.safetensors"}, images=8, layer="layer2")
    manifest = from_folder(disks)
    parts = split(manifest.items, rule="random", validation=0.5, seed=7)
    shown = sorted(facts["item"] for kind, _, facts in heard.artifacts if kind == "cam")
    assert shown == parts.validation.tolist()


def test_the_images_are_those_of_the_held_out_part(tmp_path: Path, disks: Path, models: Path) -> None:
    heard = _cam(tmp_path / "few", disks, {"segmenter": models / "two.safetensors"}, images=500)
    assert heard.figures["images"] == 2, "two of eight are kept for validation"


@pytest.mark.parametrize("method", [method for method in METHOD_NAMES if method != "eigencam"])
def test_all_but_eigen_cam_of_a_bare_encoder_are_refused(
    tmp_path: Path, disks: Path, models: Path, method: str
) -> None:
    sentence = f"{re.escape(METHOD_NAMES[method])} needs a segmentation model or a classifier"
    with pytest.raises(UserError, match=sentence):
        _cam(tmp_path, disks, {"encoder": models / "encoder.safetensors"}, method=method)


def test_two_networks_at_once_are_refused(tmp_path: Path, disks: Path, models: Path) -> None:
    files = {"segmenter": models / "two.safetensors", "classifier": models / "classifier.safetensors"}
    with pytest.raises(UserError, match="Choose one network"):
        _cam(tmp_path, disks, files)


def test_a_classifier_explains_the_class_that_is_named_or_says_which_it_knows(
    tmp_path: Path, disks: Path, models: Path
) -> None:
    files = {"classifier": models / "classifier.safetensors"}
    targets = {}
    for name in ("mouse", "human"):
        heard = _cam(tmp_path / name, disks, files, target=name, layer="layer3")
        targets[name] = [facts["target"] for kind, _, facts in heard.artifacts if kind == "cam"]
        assert all(target.startswith(f"{name}, ") for target in targets[name])
    answers = [target.endswith("as predicted") for found in targets.values() for target in found]
    assert sum(answers) == len(answers) / 2, "each image has one predicted class of the two"
    with pytest.raises(UserError, match=r"no class worm.*It knows: mouse, human"):
        _cam(tmp_path / "worm", disks, files, target="worm")


def test_a_segmenter_explains_the_mask_value_that_is_named(tmp_path: Path, disks: Path, models: Path) -> None:
    files = {"segmenter": models / "four.safetensors"}
    heard = _cam(tmp_path / "2", disks, files, target="2", layer="layer3")
    assert {facts["target"].partition(" (")[0] for _, _, facts in heard.artifacts} <= {
        "class 2 as predicted",
        "class 2",
    }
    with pytest.raises(UserError, match=r"no class 0.*It knows: 1, 2, 3"):
        _cam(tmp_path / "0", disks, files, target="0")


def test_a_bare_encoder_is_asked_for_no_class(tmp_path: Path, disks: Path, models: Path) -> None:
    files = {"encoder": models / "encoder.safetensors"}
    with pytest.raises(UserError, match="knows no classes"):
        _cam(tmp_path, disks, files, method="eigencam", target="mouse")


def test_a_classifiers_maps_are_of_images_it_has_not_learnt_from_the_classes_in_turn(
    tmp_path: Path, models: Path
) -> None:
    images = write_textures(tmp_path / "set", each=10, side=64)
    heard = _cam(tmp_path / "out", images, {"classifier": models / "classifier.safetensors"}, images=6, layer="layer4")
    data = labelled(from_folder(images), rule="dataset", seed=0)
    shown = [facts["item"] for kind, _, facts in heard.artifacts if kind == "cam"]
    assert sorted(shown) == data.split.test.tolist()
    assert [int(n) for n in data.labels[np.searchsorted(data.positions, shown)]] == [0, 1, 2, 0, 1, 2]


def test_a_map_at_another_size_than_the_networks_own_is_said(tmp_path: Path, disks: Path, models: Path) -> None:
    heard = _cam(tmp_path, disks, {"classifier": models / "classifier.safetensors"}, image_size=96, layer="layer4")
    assert any("trained at 64 px and is mapped at 96 px" in text for _, text in heard.notes)


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


def test_a_stop_ends_score_cam_within_a_map(tmp_path: Path, disks: Path, models: Path) -> None:
    class StopsAtThird(Heard):
        asked = 0

        def should_stop(self) -> bool:
            self.asked += 1
            return self.asked > 2

    heard = StopsAtThird()
    with pytest.raises(Stopped, match="0 of 2 maps"):
        _cam(tmp_path, disks, {"segmenter": models / "two.safetensors"}, heard=heard, method="scorecam")
    assert not heard.artifacts
