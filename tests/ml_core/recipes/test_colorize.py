"""Colorizing a dataset: planes in the manifest's order, the same each time, gone on with after a stop or a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import save_file

from ml_core.data.loading.view_pairs import Pairs
from ml_core.data.manifests import folder_manifest
from ml_core.errors import Stopped, UserError
from ml_core.imaging.tensor_lab import lightness_of_grey
from ml_core.job.inputs import Inputs, Slot
from ml_core.models.colorizers.eccv16 import ECCV16
from ml_core.models.colorizers.structured import structured_ab
from ml_core.models.colorizers.trained import TrainedColorizer
from ml_core.recipes import colorize
from ml_core.runtime import weights
from ml_core.runtime.training_loop import open_context
from ml_core.specs import ColorizeSpec, PretrainSpec, from_preset
from tests.ml_core.disks import write_disks
from tests.ml_core.reporters import Heard

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"method": "structured", "image_size": 64, "batch_size": 3}


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disks(tmp_path_factory.mktemp("disks") / "set", sizes=[(64, 64)] * 8)


class StopsAfter(Heard):
    """Asks for a stop once so many images are done."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self._images = images

    def progress(self, done: int, total: int, unit: str, *, stage: str = "") -> None:
        self.stop = not stage and done >= self._images


def _colorize(
    folder: Path, images: Path, heard: Heard, *, weights: Path | None = None, resume: Path | None = None, **given: Any
) -> Heard:
    folder.mkdir(exist_ok=True)
    slots = {"dataset": Slot("dataset", {"folder": str(images)})}
    if weights is not None:
        slots["colorizer"] = Slot("colorizer", {"path": str(weights)})
    inputs = Inputs(prepared=images.parent / "prepared", slots=slots, resume=resume)
    spec = ColorizeSpec(**{**SMALL, **given})
    colorize.run(open_context(spec, inputs=inputs, folder=folder, reporter=heard))
    return heard


def _colour(heard: Heard) -> tuple[Path, dict[str, Any]]:
    [found] = [(path, facts) for kind, path, facts in heard.artifacts if kind == "colour"]
    return found


def test_each_item_gets_its_own_planes_in_the_order_of_the_manifest(tmp_path: Path, disks: Path) -> None:
    path, facts = _colour(_colorize(tmp_path / "out", disks, Heard()))
    ab = load_file(path)["ab"]
    assert ab.shape == (8, 2, 64, 64)
    assert ab.dtype == np.uint8
    items = folder_manifest.from_folder(disks).items
    for position in (0, 5):
        grey = torch.from_numpy(np.array(Image.open(items[position].image.path)))[None, None].float() / 255
        expected = structured_ab(grey)[0].numpy()
        assert np.abs(ab[position].astype(float) - 128 - expected).max() <= 0.51
    assert facts == {"origin": "structured", "size": 64, "manifest": folder_manifest.from_folder(disks).sha256}
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {name: str(value) for name, value in facts.items()}


def test_sheets_show_grey_above_its_colour_early_and_at_the_end(tmp_path: Path, disks: Path) -> None:
    heard = _colorize(tmp_path / "out", disks, Heard())
    sheets = [(path, facts) for kind, path, facts in heard.artifacts if kind == "colour_pairs"]
    assert [facts["step"] for _, facts in sheets] == [3, 8]
    with Image.open(sheets[-1][0]) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    spread = np.ptp(pixels, axis=2) > 20
    assert not spread[40 : pixels.shape[0] // 2 - 20].any(), "the upper row is grey"
    assert spread[pixels.shape[0] // 2 + 20 :].mean() > 0.2, "the lower row has colour"


@pytest.mark.parametrize(("image_size", "side"), [(64, 64), (128, 64), (256, 64), (512, 128), (32, 32)])
def test_planes_are_a_quarter_of_the_size_but_not_tiny(image_size: int, side: int) -> None:
    assert colorize.plane_size(image_size) == side


def test_a_stopped_job_goes_on_where_it_was_in_the_same_folder_or_another(tmp_path: Path, disks: Path) -> None:
    whole, _ = _colour(_colorize(tmp_path / "whole", disks, Heard()))
    first = StopsAfter(3)
    with pytest.raises(Stopped, match="3 of 8"):
        _colorize(tmp_path / "first", disks, first)
    [(step, checkpoint)] = first.checkpoints
    assert step == 3
    second = StopsAfter(6)
    with pytest.raises(Stopped, match="6 of 8"):
        _colorize(tmp_path / "second", disks, second, resume=checkpoint)
    assert second.records["resumed_step"] == 3
    third = _colorize(tmp_path / "second", disks, Heard())
    assert third.records["resumed_step"] == 6
    assert _colour(third)[0].read_bytes() == whole.read_bytes()


def test_planes_begun_by_other_settings_are_not_gone_on_with(tmp_path: Path, disks: Path) -> None:
    with pytest.raises(Stopped):
        _colorize(tmp_path / "out", disks, StopsAfter(3))
    with pytest.raises(UserError, match="other settings"):
        _colorize(tmp_path / "out", disks, Heard(), image_size=128)


def test_eccv16_colours_from_weights_that_are_brought_in(tmp_path: Path, disks: Path) -> None:
    torch.manual_seed(0)
    network = ECCV16()
    torch.nn.init.normal_(network.model_out.weight, std=0.5)
    save_file(network.state_dict(), tmp_path / "colorizer.safetensors")
    weights = tmp_path / "colorizer.safetensors"
    path, facts = _colour(_colorize(tmp_path / "out", disks, Heard(), method="eccv16", weights=weights))
    assert facts["origin"] == "eccv16"
    assert load_file(path)["ab"].std() > 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a colorizer as a train_colorizer job leaves it, with colours that are far apart."""
    torch.manual_seed(0)
    network = TrainedColorizer(width=2)
    network.begin(torch.full((313,), 1 / 313))
    torch.nn.init.normal_(network.model8[6].weight, std=1)
    path = tmp_path_factory.mktemp("trained") / "colorizer.safetensors"
    weights.save(path, network.state_dict(), facts=network.facts())
    return path


def _trained_ab(trained: Path, grey: torch.Tensor) -> torch.Tensor:
    network = TrainedColorizer(width=2).eval()
    network.load_state_dict(weights.load(trained).tensors)
    with torch.inference_mode():
        return network(lightness_of_grey(grey))


def test_a_colorizer_that_was_trained_here_colours_and_is_named_as_the_origin(
    tmp_path: Path, disks: Path, trained: Path
) -> None:
    heard = _colorize(tmp_path / "out", disks, Heard(), method="trained", weights=trained)
    path, facts = _colour(heard)
    assert facts["origin"] == heard.figures["origin"] == "trained"
    items = folder_manifest.from_folder(disks).items
    grey = torch.from_numpy(np.array(Image.open(items[4].image.path)))[None, None].float() / 255
    expected = _trained_ab(trained, grey)[0].numpy()
    assert expected.std() > 3
    assert np.abs(load_file(path)["ab"][4].astype(float) - 128 - expected).max() <= 0.51


def test_the_method_trained_without_a_colorizer_says_what_to_choose(tmp_path: Path, disks: Path) -> None:
    spec = from_preset("colorize", "quick", method="trained")
    assert [refusal.field for refusal in spec.lacking(["dataset"])] == ["colorizer"]
    assert spec.lacking(["dataset", "colorizer"]) == []
    with pytest.raises(UserError, match="train_colorizer"):
        _colorize(tmp_path / "out", disks, Heard(), method="trained")


def test_planes_of_one_trained_colorizer_are_not_gone_on_with_by_another(
    tmp_path: Path, disks: Path, trained: Path
) -> None:
    with pytest.raises(Stopped):
        _colorize(tmp_path / "out", disks, StopsAfter(3), method="trained", weights=trained)
    network = TrainedColorizer(width=2)
    weights.save(tmp_path / "other.safetensors", network.state_dict(), facts=network.facts())
    with pytest.raises(UserError, match="other settings"):
        _colorize(tmp_path / "out", disks, Heard(), method="trained", weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize("method", ["structured", "trained"])
def test_pretraining_reads_back_every_ab_within_half_a_step(
    tmp_path: Path, disks: Path, trained: Path, method: str
) -> None:
    """From the colorizer through the kept bytes to the view that the network is given."""
    given = {"weights": trained} if method == "trained" else {}
    colour, _ = _colour(_colorize(tmp_path / "out", disks, Heard(), method=method, **given))
    greys = [np.array(Image.open(item.image.path)) for item in folder_manifest.from_folder(disks).items]
    spec = PretrainSpec(views="colour", image_size=64)
    ab_kept = weights.load(colour).tensors["ab"]
    pairs = Pairs(np.stack(greys), ab=ab_kept, spec=spec, device=torch.device("cpu"))
    positions = np.array([6, 1])
    grey, view = pairs.views(positions)
    ab = view[:, 1:].cpu() * 255 - 128
    light = grey[:, :1].cpu()
    expected = structured_ab(light) if method == "structured" else _trained_ab(trained, light)
    assert expected.std() > 3
    assert (ab - expected).abs().max() <= 0.51
