"""Training a colorizer: that it learns, what it leaves, that it is the same each time, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ml_core.data.manifests import folder_manifest
from ml_core.errors import Stopped, UserError
from ml_core.job.inputs import Inputs, Slot
from ml_core.models.colorizers.trained import trained_from
from ml_core.recipes import train_colorizer
from ml_core.runtime import weights
from ml_core.runtime.training_loop import open_context
from ml_core.specs import SpecError, TrainColorizerSpec, from_preset, load_spec
from tests.ml_core.photographs import write_photographs
from tests.ml_core.reporters import Heard

SMALL: dict[str, Any] = {
    "network": "small",
    "image_size": 40,
    "crop_size": 32,
    "epochs": 2,
    "batch_size": 6,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "points_every": 2,
    "threads": 1,
}


class StopsAt(Heard):
    """Asks for a stop after this step: training asks once after each."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def should_stop(self) -> bool:
        self._left -= "total_steps" in self.records
        return self._left <= 0


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("set") / "photographs", count=20)


def _train(folder: Path, images: Path, heard: Heard, **given: Any) -> Heard:
    folder.mkdir(exist_ok=True)
    inputs = Inputs(prepared=folder / "prepared", slots={"dataset": Slot("dataset", {"folder": str(images)})})
    spec = TrainColorizerSpec(**{**SMALL, **given})
    train_colorizer.run(open_context(spec, inputs=inputs, folder=folder, reporter=heard))
    return heard


def _colorizer(heard: Heard) -> tuple[Path, dict[str, Any]]:
    [found] = [(path, facts) for kind, path, facts in heard.artifacts if kind == "colorizer"]
    return found


@pytest.mark.slow
def test_it_learns_the_colours_and_says_what_a_constant_would_reach(tmp_path: Path, photographs: Path) -> None:
    # All colours alike, as there are but two: their borders, which are rare, would otherwise take up the training.
    heard = _train(tmp_path / "out", photographs, Heard(), epochs=25, balance=1.0)
    found = heard.figures
    assert found["cross_entropy"] == pytest.approx(found["loss"], rel=1e-4), "without weights they are the same"
    assert found["cross_entropy"] < 0.85 * found["marginal_cross_entropy"]
    assert found["ab_error"] < 0.95 * min(found["constant_ab_error"], found["grey_ab_error"])
    assert (found["part"], found["photographs"]) == ("validation", 2)
    network = trained_from(_colorizer(heard)[0])
    with torch.inference_mode():
        dark, bright = (network(torch.full((1, 1, 32, 32), light))[0, 1].mean() for light in (25.0, 75.0))
    assert dark < -10, "dark is blue: b is negative"
    assert bright > 10, "bright is orange: b is positive"


@pytest.mark.slow
def test_it_leaves_a_colorizer_sheets_and_curves_and_the_same_seed_says_the_same(
    tmp_path: Path, photographs: Path
) -> None:
    heard = _train(tmp_path / "one", photographs, Heard())
    path, facts = _colorizer(heard)
    assert {name: facts[name] for name in ("origin", "architecture", "width", "shortcuts", "bins", "temperature")} == {
        "origin": "trained",
        "architecture": "zhang2016",
        "width": 16,
        "shortcuts": True,
        "bins": 313,
        "temperature": 0.38,
    }
    assert facts["manifest"] == folder_manifest.from_folder(photographs).sha256
    assert weights.load(path).facts == facts
    assert heard.records["steps_per_epoch"] == 3
    assert list(heard.curve("loss/train")) == [2, 4, 6]
    weighted, plain = heard.figures["marginal_loss"], heard.figures["marginal_cross_entropy"]
    assert abs(heard.curve("loss/train")[2] - weighted) < 0.5 * (plain - weighted), (
        "it begins at the marginal, weighted"
    )
    for name in ("loss", "cross_entropy", "ab_error"):
        assert list(heard.curve(f"{name}/validation")) == [3, 6]
    levels = heard.curve("cross_entropy/marginal")
    assert levels[3] == levels[6] == heard.figures["marginal_cross_entropy"]

    sheets = [(path, facts) for kind, path, facts in heard.artifacts if kind == "colour_pairs"]
    assert [facts["step"] for _, facts in sheets] == [3, 6]
    with Image.open(sheets[0][0]) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    third = pixels.shape[0] // 3
    photograph, grey, _ = (np.ptp(pixels[n * third + 40 : (n + 1) * third - 40], axis=2).max() for n in range(3))
    assert photograph > 80
    assert grey < 20

    again = _train(tmp_path / "two", photographs, Heard())
    assert again.points == heard.points
    assert _colorizer(again)[0].read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same_run(tmp_path: Path, photographs: Path) -> None:
    whole = _train(tmp_path / "whole", photographs, Heard())
    first = StopsAt(4)
    with pytest.raises(Stopped):
        _train(tmp_path / "parts", photographs, first)
    assert [step for step, _ in first.checkpoints] == [4], "between two epochs"
    second = _train(tmp_path / "parts", photographs, Heard())
    assert _colorizer(second)[0].read_bytes() == _colorizer(whole)[0].read_bytes()
    said = {(name, step): value for name, step, value, _, _ in first.points + second.points}
    assert said == {(name, step): value for name, step, value, _, _ in whole.points}
    assert second.figures == whole.figures


@pytest.mark.slow
def test_it_is_judged_on_the_test_part_where_there_is_one(tmp_path: Path) -> None:
    for part, count in (("train", 8), ("test", 3)):
        write_photographs(tmp_path / "set" / part, count=count, seed=count)
    heard = _train(tmp_path / "out", tmp_path / "set", Heard(), epochs=1)
    assert (heard.figures["part"], heard.figures["photographs"]) == ("test", 3)


def test_a_dataset_without_colour_is_refused_and_its_images_named(tmp_path: Path) -> None:
    images = write_photographs(tmp_path / "grey", count=7, grey=7)
    with pytest.raises(UserError, match=r"All 7 images are grey: 00\.png, .*04\.png and 2 more.*colour photographs"):
        _train(tmp_path / "out", images, Heard())


@pytest.mark.slow
def test_grey_images_among_others_are_left_out_by_name(tmp_path: Path) -> None:
    images = write_photographs(tmp_path / "mixed", count=8, grey=2)
    heard = _train(tmp_path / "out", images, Heard(), epochs=1)
    assert ("warning", "2 images are grey and are left out: 06.png, 07.png.") in heard.notes
    assert _colorizer(heard)[1]["photographs"] == 5


def test_a_single_photograph_is_too_few(tmp_path: Path) -> None:
    images = write_photographs(tmp_path / "one", count=3, grey=2)
    with pytest.raises(UserError, match="1 colour photographs: too few"):
        _train(tmp_path / "out", images, Heard())


@pytest.mark.slow
def test_who_has_learned_nothing_is_told_so(tmp_path: Path, photographs: Path) -> None:
    heard = _train(tmp_path / "out", photographs, Heard(), epochs=1, learning_rate=1e-9)
    assert [text for level, text in heard.notes if level == "warning"] == [
        "The colorizer knows no more of a photograph's colours than how common each colour is. Train it longer, or on "
        "more photographs."
    ]


def test_the_rate_follows_its_schedule() -> None:
    def rates(schedule: str) -> list[float]:
        spec = TrainColorizerSpec(schedule=schedule, learning_rate=1.0)
        return [train_colorizer.rate_at(step, total=100, spec=spec) for step in (1, 45, 46, 90, 91, 100)]

    assert rates("constant") == [1.0] * 6
    assert rates("drops") == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = rates("cosine")
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == 1
    assert cosine[-1] < 0.001


def test_a_crop_larger_than_the_photographs_is_refused_with_both_sizes() -> None:
    with pytest.raises(SpecError, match=r"crop_size: The crop of 256 px .* 128 px"):
        load_spec({"kind": "train_colorizer", "image_size": 128, "crop_size": 256})


def test_the_paper_preset_holds_the_figures_of_zhang_et_al() -> None:
    spec = from_preset("train_colorizer", "paper").model_dump()
    wanted = {"network": "full", "image_size": 256, "crop_size": 176, "batch_size": 40, "learning_rate": 3e-5}
    wanted |= {"weight_decay": 1e-3, "balance": 0.5, "temperature": 0.38, "schedule": "drops"}
    assert {k: spec[k] for k in wanted} == wanted


@pytest.mark.slow
def test_on_real_photographs_it_soon_beats_one_colour_for_all(tmp_path: Path, real_data: Path) -> None:
    images = real_data / "photos_grocery_mit" / "images"
    heard = _train(tmp_path / "out", images, Heard(), image_size=48, crop_size=48, epochs=4, batch_size=8, seed=1)
    found = heard.figures
    assert (found["part"], found["photographs"]) == ("test", 100)
    assert found["loss"] < found["marginal_loss"]
    assert found["ab_error"] < min(found["constant_ab_error"], found["grey_ab_error"])
