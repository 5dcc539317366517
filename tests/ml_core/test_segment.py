"""Segmentation: what it makes, what frozen means, that a killed run is the same run, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
from ml_core.models.unet import segmenter_from
from ml_core.recipes import segment
from ml_core.reporting import Stopped, UserError
from ml_core.specs import SegmentSpec
from tests.ml_core.disks import write_disks
from tests.ml_core.reporters import Heard

pytestmark = pytest.mark.slow  # runs networks: seconds each

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "encoder": "resnet18",
    "weights": "fine-tuned",
    "image_size": 32,
    "batch_size": 3,
    "epochs": 2,
    "learning_rate": 2e-3,
    "points_every": 1,
    "threads": 1,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of one size; six to learn from, two to validate on."""
    return write_disks(tmp_path_factory.mktemp("disks") / "set", sizes=[(48, 64)] * 8)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder, with BatchNorm statistics of its own."""
    torch.manual_seed(3)
    network = encoders.build("resnet18").train()
    with torch.no_grad():
        network(torch.rand(4, 3, 32, 32))
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    kept = weights.Encoder(
        tensors=network.state_dict(),
        architecture="resnet18",
        channels=3,
        mean=(0.4, 0.4, 0.4),
        deviation=(0.2, 0.2, 0.2),
        facts={"origin": "byol-colour"},
    )
    weights.save_encoder(path, kept)
    return path


def _segment(
    folder: Path,
    images: Path,
    *,
    heard: Heard | None = None,
    encoder: Path | None = None,
    prepared: Path | None = None,
    **given: Any,
) -> Heard:
    heard = heard or Heard()
    folder.mkdir(exist_ok=True)
    slots = {"dataset": Slot("dataset", {"folder": str(images)})}
    if encoder is not None:
        slots["encoder"] = Slot("encoder", {"path": str(encoder)})
    inputs = Inputs(prepared=prepared or folder / "prepared", slots=slots)
    spec = SegmentSpec(**{**SMALL, **given})
    segment.run(open_context(spec, inputs=inputs, folder=folder, reporter=heard))
    return heard


def _artifacts(heard: Heard, kind: str) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, facts) for found, path, facts in heard.artifacts if found == kind]


@pytest.mark.parametrize("framing", ["resize", "crops"])
def test_it_learns_and_judges_every_item_at_its_own_size(tmp_path: Path, framing: str) -> None:
    sizes = [(48, 64), (64, 64), (40, 30), (48, 70)] * 2
    images = write_disks(tmp_path / "set", sizes=sizes)
    heard = _segment(tmp_path / "out", images, framing=framing, epochs=16 if framing == "resize" else 4)
    figures = heard.figures
    assert figures["foreground_iou"] > 0.5
    assert figures["mean_iou"] == pytest.approx((figures["foreground_iou"] + figures["background_iou"]) / 2)
    assert 0.3 < figures["floor"] < 0.5
    assert figures["part"] == "validation"
    assert figures["images"] == len(figures["per_image"]) == 2
    assert "at random" in figures["split"]
    pictures = _artifacts(heard, "prediction")
    assert len(pictures) == 2
    for path, facts in pictures:
        predicted = np.asarray(Image.open(path))
        assert predicted.shape == sizes[facts["item"]]
        assert set(np.unique(predicted)) <= {0, 1}
        assert facts["page"] == 0
        assert len(facts["image"]) == 64
    # The figures are those of the very pictures that were kept.
    truths = [np.asarray(Image.open(images / "masks" / f"{facts['item']:02d}.png")) > 0 for _, facts in pictures]
    predictions = [np.asarray(Image.open(path)) > 0 for path, _ in pictures]
    hit = sum((t & p).sum() for t, p in zip(truths, predictions, strict=True))
    union = sum((t | p).sum() for t, p in zip(truths, predictions, strict=True))
    assert figures["foreground_iou"] == pytest.approx(hit / union)


def test_curves_samples_and_weights_are_those_of_the_contract(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks)
    assert list(heard.curve("loss/train")) == [1, 2, 3, 4]
    for name in ("loss/validation", "foreground_iou/validation", "background_iou/validation", "mean_iou/validation"):
        assert list(heard.curve(name)) == [2, 4]
    sheets = _artifacts(heard, "sample")
    assert [facts["step"] for _, facts in sheets] == [2, 4]
    assert sheets[0][1]["items"] == sheets[1][1]["items"]
    [(path, facts)] = _artifacts(heard, "segmenter")
    expected = {"architecture": "resnet18", "channels": 3, "origin": "random", "image_size": 32, "classes": [0, 255]}
    expected |= {"mask_layer": "mask", "threshold": 0.5, "framing": "resize", "decoder": "unet"}
    assert {name: facts[name] for name in expected} == expected
    assert facts["step"] == heard.figures["best_step"] in (2, 4)
    segmenter = segmenter_from(weights.load(path), source=path.name)
    assert segmenter(torch.rand(1, 1, 32, 32)).shape == (1, 1, 32, 32)


def test_the_weights_kept_are_those_of_the_best_epoch(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks, epochs=5)
    curve = heard.curve("foreground_iou/validation")
    assert curve[heard.figures["best_step"]] == max(curve.values())
    assert heard.figures["foreground_iou"] == pytest.approx(max(curve.values()), abs=1e-6)


def test_several_classes_are_learnt_under_the_values_of_their_masks(tmp_path: Path) -> None:
    images = write_disks(tmp_path / "set", sizes=[(48, 48)] * 8, values=(100, 200))
    heard = _segment(tmp_path / "out", images, epochs=16)
    assert [row["value"] for row in heard.figures["per_class"]] == [100, 200]
    assert heard.figures["foreground_iou"] == pytest.approx(np.mean([row["iou"] for row in heard.figures["per_class"]]))
    assert heard.figures["foreground_iou"] > 0.3
    [(_, facts)] = _artifacts(heard, "segmenter")
    assert facts["classes"] == [0, 100, 200]
    found = {int(v) for path, _ in _artifacts(heard, "prediction") for v in np.unique(np.asarray(Image.open(path)))}
    assert found == {0, 1, 2}


def test_a_frozen_encoder_comes_out_as_it_went_in(tmp_path: Path, disks: Path, encoder: Path) -> None:
    heard = _segment(tmp_path / "out", disks, encoder=encoder, weights="frozen")
    [(path, facts)] = _artifacts(heard, "segmenter")
    assert facts["origin"] == "byol-colour"
    assert facts["mean"] == pytest.approx([0.4] * 3)
    after = weights.load(path).tensors
    for name, tensor in weights.load_encoder(encoder).tensors.items():
        assert torch.equal(after[f"encoder.{name}"], tensor), name


def test_a_fine_tuned_encoder_starts_from_the_given_weights_and_moves(
    tmp_path: Path, disks: Path, encoder: Path
) -> None:
    heard = _segment(tmp_path / "out", disks, encoder=encoder, learning_rate=1e-4)
    after = weights.load(_artifacts(heard, "segmenter")[0][0]).tensors["encoder.conv1.weight"]
    before = weights.load_encoder(encoder).tensors["conv1.weight"]
    assert 0 < (after - before).abs().max() < 0.01


def test_without_a_pretrained_encoder_frozen_is_not_taken_at_its_word(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks, weights="frozen", epochs=1)
    assert any("trained from random weights" in text for _, text in heard.notes)


def test_the_same_seed_says_the_same(tmp_path: Path, disks: Path) -> None:
    first = _segment(tmp_path / "one", disks, framing="crops")
    again = _segment(tmp_path / "two", disks, framing="crops")
    assert first.points == again.points


def test_the_cosine_rate_falls_from_its_start_to_nothing(tmp_path: Path, disks: Path) -> None:
    rate = list(_segment(tmp_path / "out", disks, schedule="cosine").curve("learning_rate").values())
    assert rate == pytest.approx([2e-3 * (1 + np.cos(np.pi * k / 4)) / 2 for k in range(4)])


def test_the_plateau_rate_falls_to_a_tenth_when_the_validation_loss_does_not(
    tmp_path: Path, disks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = segment.Validation(points={"loss/validation": 1.0}, score=0.5, shown={}, per_image={})
    monkeypatch.setattr(segment, "_validate", lambda *_: stuck)
    monkeypatch.setattr(segment, "_show", lambda *_, **__: None)
    rate = _segment(tmp_path / "out", disks, schedule="plateau", patience=1, epochs=4).curve("learning_rate")
    assert list(rate.values()) == pytest.approx([2e-3] * 6 + [2e-4] * 2)


def test_a_test_part_is_what_results_are_judged_on(tmp_path: Path) -> None:
    write_disks(tmp_path / "set" / "training", sizes=[(32, 32)] * 6)
    write_disks(tmp_path / "set" / "testing", sizes=[(32, 32)] * 3, seed=1)
    heard = _segment(tmp_path / "out", tmp_path / "set", epochs=1)
    assert heard.figures["part"] == "test"
    assert heard.figures["images"] == 3
    assert all(row["name"].startswith("testing/") for row in heard.figures["per_image"])


def test_stopping_leaves_a_checkpoint_and_no_model(tmp_path: Path, disks: Path) -> None:
    # Another job has prepared the images; preparing them would stop as well.
    _segment(tmp_path / "earlier", disks, epochs=1, prepared=tmp_path / "prepared")
    heard = Heard()
    heard.stop = True
    with pytest.raises(Stopped):
        _segment(tmp_path / "out", disks, heard=heard, prepared=tmp_path / "prepared")
    assert [step for step, _ in heard.checkpoints] == [1]
    assert not _artifacts(heard, "segmenter")


def _masks(folder: Path, change: str) -> Path:
    """A set of disks whose masks are unfit in one way."""
    write_disks(folder, sizes=[(40, 40)] * 4)
    for path in sorted((folder / "masks").iterdir()):
        if change == "none":
            path.unlink()
        elif change == "empty":
            Image.fromarray(np.zeros((40, 40), np.uint8)).save(path)
        elif change == "objects":
            Image.fromarray((np.arange(1600).reshape(40, 40) % 200).astype(np.uint8)).save(path)
        elif change == "layers":
            (folder / "masks_membranes").mkdir(exist_ok=True)
            (folder / "masks_membranes" / path.name).write_bytes(path.read_bytes())
        elif change == "one" and path.stem != "00":
            path.unlink()
    return folder


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("none", "nothing to learn"),
        ("empty", "nothing is marked"),
        ("objects", "one number per object"),
        ("layers", "several mask layers: .*membranes"),
        ("one", "1 of 4 images have a mask"),
    ],
)
def test_masks_that_cannot_be_learnt_are_refused_with_what_to_do(tmp_path: Path, change: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        _segment(tmp_path / "out", _masks(tmp_path / "set", change))


def test_the_named_layer_of_several_is_learnt(tmp_path: Path) -> None:
    heard = _segment(tmp_path / "out", _masks(tmp_path / "set", "layers"), mask_layer="membranes", epochs=1)
    [(_, facts)] = _artifacts(heard, "segmenter")
    assert facts["mask_layer"] == "membranes"
    with pytest.raises(UserError, match="no mask layer axons"):
        _segment(tmp_path / "two", tmp_path / "set", mask_layer="axons")


def test_one_image_of_32_px_at_a_time_is_refused(tmp_path: Path, disks: Path) -> None:
    with pytest.raises(UserError, match="batch of 2"):
        _segment(tmp_path / "out", disks, batch_size=1)


def _curve(folder: Path) -> dict[tuple[str, int], Any]:
    """The points, a step that was said again counting as said last."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]
    return {(e["name"], e["step"]): (e["value"], e.get("low"), e.get("high")) for e in events if e["kind"] == "point"}


def test_killed_at_some_steps_it_ends_with_the_same_weights_and_the_same_curve(tmp_path: Path, disks: Path) -> None:
    spec = tmp_path / "spec.json"
    given = SMALL | {"epochs": 5, "framing": "crops", "schedule": "plateau", "checkpoint_seconds": 1, "batch_size": 4}
    spec.write_text(SegmentSpec(**given).model_dump_json())

    def run(name: str, kills: list[int]) -> Path:
        command = ["run", str(spec), "--workdir", str(tmp_path / name), "--dataset", str(disks)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.ml_core.killing", json.dumps(command), json.dumps(kills)],
            cwd=ROOT,
            env={**os.environ, "CRISTAE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == [-9] * len(kills) + [0], done.stdout + done.stderr
        return tmp_path / name

    undisturbed = run("undisturbed", [])
    disturbed = run("disturbed", [7, 13])
    resumed = [line for line in (disturbed / "events.jsonl").read_text().splitlines() if "resumed_step" in line]
    assert resumed, "at least one restart must have found a checkpoint"
    assert _curve(disturbed) == _curve(undisturbed)
    model = Path("artifacts") / "segmenter.safetensors"
    assert (disturbed / model).read_bytes() == (undisturbed / model).read_bytes()
