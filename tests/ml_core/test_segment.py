"""Segmentation: what it makes, what frozen means, that a killed run is the same run, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
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
from ml_core.models import encoders, published
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
    architecture: str = "resnet18",
    prepared: Path | None = None,
    **given: Any,
) -> Heard:
    heard = heard or Heard()
    folder.mkdir(exist_ok=True)
    slots = {"dataset": Slot("dataset", {"folder": str(images)})}
    if encoder is not None:
        slots["encoder"] = Slot("encoder", {"path": str(encoder)})
    inputs = Inputs(prepared=prepared or folder / "prepared", slots=slots)
    spec = SegmentSpec(**{**SMALL, "encoder": architecture, **given})
    segment.run(open_context(spec, inputs=inputs, folder=folder, reporter=heard))
    return heard


def _artifacts(heard: Heard, kind: str) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, facts) for found, path, facts in heard.artifacts if found == kind]


@pytest.mark.parametrize(
    "given",
    [
        {"framing": "resize", "epochs": 16},
        {"framing": "crops", "epochs": 4},
        {"framing": "crops", "epochs": 16, "image_size": 64, "resolution": "half"},
    ],
    ids=["resize", "crops", "half"],
)
def test_it_learns_and_judges_every_item_at_its_own_size(tmp_path: Path, given: dict[str, Any]) -> None:
    sizes = [(48, 64), (64, 64), (40, 30), (48, 70)] * 2
    images = write_disks(tmp_path / "set", sizes=sizes)
    heard = _segment(tmp_path / "out", images, **given)
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


def test_the_weights_of_the_end_are_kept_where_that_is_asked_for(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks, epochs=5, judged="last")
    curve = heard.curve("foreground_iou/validation")
    assert heard.figures["judged_step"] == max(curve)
    assert heard.figures["foreground_iou"] == pytest.approx(curve[max(curve)], abs=1e-6)
    assert curve[heard.figures["best_step"]] == max(curve.values())
    [(path, facts)] = _artifacts(heard, "segmenter")
    [(last, _)] = _artifacts(heard, "segmenter_last")
    assert facts["step"] == max(curve)
    kept, end = weights.load(path).tensors, weights.load(last).tensors
    assert all(torch.equal(kept[name], end[name]) for name in kept)


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
    given |= {"average": 0.9, "validate_every": 2, "warmup": 0.1, "threshold": "validation"}
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


def test_the_last_weights_are_kept_beside_the_best(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks, architecture="casser", epochs=5)
    [(last, facts)] = _artifacts(heard, "segmenter_last")
    assert facts["step"] == 10
    state = torch.load(heard.checkpoints[-1][1] / "state.pt", weights_only=True)["state"]
    kept = weights.load(last).tensors
    assert kept.keys() == state["network"].keys()
    assert all(torch.equal(kept[name], value) for name, value in state["network"].items())
    [(best, _)] = _artifacts(heard, "segmenter")
    best_tensors = weights.load(best).tensors
    assert all(torch.equal(best_tensors[name], value) for name, value in state["best"]["weights"].items())


def test_it_stops_early_when_validation_gets_no_better_and_judges_the_best(
    tmp_path: Path, disks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.4, 0.6, 0.6, 0.5, 0.7])

    def validation(*_: object) -> segment.Validation:
        return segment.Validation(points={"loss/validation": 1.0}, score=next(scores), shown={}, per_image={})

    monkeypatch.setattr(segment, "_validate", validation)
    monkeypatch.setattr(segment, "_show", lambda *_, **__: None)
    heard = _segment(tmp_path / "out", disks, architecture="casser", epochs=9, early_stop=2)
    assert any("Stopped early after epoch 4: no better validation score since epoch 2." in t for _, t in heard.notes)
    assert heard.records["total_steps"] == 8
    assert heard.figures["best_epoch"] == 2
    assert [step for step, _ in heard.checkpoints][-1] == 8


def test_the_threshold_is_the_best_on_validation_and_is_what_the_results_and_the_model_use(tmp_path: Path) -> None:
    write_disks(tmp_path / "set" / "training", sizes=[(48, 48)] * 8)
    write_disks(tmp_path / "set" / "testing", sizes=[(48, 48)] * 6, seed=1)
    given: dict[str, Any] = {"epochs": 5, "prepared": tmp_path / "prepared"}
    half = _segment(tmp_path / "half", tmp_path / "set", **given)
    chosen = _segment(tmp_path / "chosen", tmp_path / "set", threshold="validation", **given)
    [(table, facts)] = [(p, f) for p, f in _artifacts(chosen, "table") if p.name == "precision-recall.csv"]
    assert facts["part"] == "validation"
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(float(row["foreground_iou"]) for row in rows)
    threshold = chosen.figures["threshold"]
    assert threshold != 0.5, "a threshold that is chosen by chance would show nothing"
    assert float(rows[round(threshold * 1024)]["foreground_iou"]) == best
    [(_, facts)] = _artifacts(chosen, "segmenter")
    assert facts["threshold"] == threshold
    assert half.figures["threshold"] == 0.5
    assert half.figures["foreground_iou"] == pytest.approx(half.figures["foreground_iou_at_half"])
    assert chosen.figures["foreground_iou_at_half"] == half.figures["foreground_iou_at_half"]
    assert chosen.figures["foreground_iou"] != half.figures["foreground_iou"]
    assert chosen.figures["average_precision"] == half.figures["average_precision"]
    assert 0 < chosen.figures["average_precision"] <= 1


def test_six_images_that_stand_alone_give_an_interval_and_two_do_not(tmp_path: Path, disks: Path) -> None:
    write_disks(tmp_path / "set" / "training", sizes=[(32, 32)] * 6)
    write_disks(tmp_path / "set" / "testing", sizes=[(32, 32)] * 6, seed=1)
    figures = _segment(tmp_path / "six", tmp_path / "set", epochs=4).figures
    low, high = figures["foreground_iou_interval"]
    assert figures["groups"] == 6
    assert low < figures["foreground_iou"] < high
    values = [row["foreground_iou"] for row in figures["per_image"]]
    assert figures["foreground_iou_per_image"] == pytest.approx(np.mean(values))
    two = _segment(tmp_path / "two", disks, architecture="casser", epochs=1).figures
    assert two["groups"] == 2
    assert "foreground_iou_interval" not in two


def test_every_image_stands_in_the_table(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks, architecture="casser")
    [path] = [path for path, _ in _artifacts(heard, "table") if path.name == "per-image.csv"]
    with open(path, newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: float(row["foreground_iou"]) for name, row in rows.items()} == {
        row["name"]: pytest.approx(row["foreground_iou"]) for row in heard.figures["per_image"]
    }


def test_averaged_weights_are_what_is_validated_and_kept(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks, architecture="casser", average=0.8, epochs=3)
    state = torch.load(heard.checkpoints[-1][1] / "state.pt", weights_only=True)["state"]
    mean = {name.removeprefix("network."): value for name, value in state["average"].items()}
    [(last, _)] = _artifacts(heard, "segmenter_last")
    kept = weights.load(last).tensors
    assert all(torch.equal(kept[name], mean[name]) for name in kept)
    assert not torch.equal(kept["decoder.up.0.weight"], state["network"]["decoder.up.0.weight"])


def test_validation_comes_as_often_as_was_asked_and_after_the_last_epoch(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks, architecture="casser", validate_every=3, epochs=5)
    assert list(heard.curve("foreground_iou/validation")) == [6, 10]


def test_the_rate_rises_over_the_warm_up_and_then_follows_its_schedule() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)

    def rates(schedule: str) -> list[float]:
        spec = SegmentSpec(**{**SMALL, "schedule": schedule, "warmup": 0.5})
        found = []
        for step in range(1, 9):
            segment._set_rate(optimizer, spec, step=step, total_steps=8)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    rising = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert rates("constant") == pytest.approx([2e-3 * share for share in rising])
    cosine = [(1 + np.cos(np.pi * k / 8)) / 2 for k in range(8)]
    assert rates("cosine") == pytest.approx([2e-3 * a * b for a, b in zip(rising, cosine, strict=True)])
    rates("plateau")
    optimizer.param_groups[0]["lr"] = 2e-4  # as a plateau would
    segment._set_rate(optimizer, SegmentSpec(**SMALL, warmup=0.5), step=8, total_steps=8)
    assert optimizer.param_groups[0]["lr"] == 2e-4


def test_larger_tiles_and_flips_judge_the_same_network_otherwise(tmp_path: Path, disks: Path) -> None:
    given: dict[str, Any] = {"framing": "crops", "decoder": "fpn", "epochs": 1, "prepared": tmp_path / "prepared"}
    plain = _segment(tmp_path / "plain", disks, **given)
    wide = _segment(tmp_path / "wide", disks, prediction_tile=64, prediction_flips=True, **given)
    one, two = (weights.load(_artifacts(heard, "segmenter")[0][0]) for heard in (plain, wide))
    assert all(torch.equal(value, two.tensors[name]) for name, value in one.tensors.items())
    assert one.facts["decoder"] == "fpn"
    assert plain.figures["average_precision"] != wide.figures["average_precision"]


def test_cassers_network_sees_one_channel_and_comes_back_from_its_file(tmp_path: Path, disks: Path) -> None:
    heard = _segment(tmp_path / "out", disks, architecture="casser", epochs=1)
    [(path, facts)] = _artifacts(heard, "segmenter")
    assert (facts["architecture"], facts["channels"]) == ("casser", 1)
    segmenter = segmenter_from(weights.load(path), source=path.name)
    assert segmenter(torch.rand(1, 1, 32, 32)).shape == (1, 1, 32, 32)


def test_imagenet_weights_are_asked_for_where_no_encoder_is_given_and_may_be_frozen(
    tmp_path: Path, disks: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path | None, Path]] = []

    def imagenet(architecture: str, *, path: Path | None, keep: Path) -> weights.Encoder:
        asked.append((architecture, path, keep))
        found = weights.load_encoder(encoder)
        return weights.Encoder(found.tensors, "resnet18", 3, found.mean, found.deviation, {"origin": "imagenet"})

    monkeypatch.setattr(published, "imagenet", imagenet)
    heard = _segment(tmp_path / "out", disks, initial="imagenet", weights="frozen", epochs=1)
    assert asked == [("resnet18", None, tmp_path / "out" / "prepared" / "weights")]
    [(path, facts)] = _artifacts(heard, "segmenter")
    assert facts["origin"] == "imagenet"
    kept = weights.load(path).tensors["encoder.conv1.weight"]
    assert torch.equal(kept, weights.load_encoder(encoder).tensors["conv1.weight"])


class StoppedAfter(Heard):
    """Asks for a stop after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def point(self, name: str, step: int, value: float, **span: Any) -> None:
        super().point(name, step, value, **span)
        self.stop = self.stop or step >= self.steps


def test_kept_features_train_the_same_after_a_stop(
    tmp_path: Path, disks: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_core.engine.DRAIN_SECONDS", 0.0)  # so that each step is said at once
    given: dict[str, Any] = {"weights": "frozen", "feature_cache": 1.0, "encoder": encoder, "epochs": 4}
    given["prepared"] = tmp_path / "prepared"
    whole = _segment(tmp_path / "whole", disks, **given)
    assert any("16 forms and its features are kept" in text for _, text in whole.notes)
    with pytest.raises(Stopped):
        _segment(tmp_path / "parted", disks, heard=StoppedAfter(3), **given)
    rest = _segment(tmp_path / "parted", disks, **given)
    assert 0 < rest.records["resumed_step"] < 8
    one, two = (weights.load(_artifacts(heard, "segmenter_last")[0][0]).tensors for heard in (whole, rest))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    before = weights.load_encoder(encoder).tensors
    assert all(torch.equal(one[f"encoder.{name}"], value) for name, value in before.items())


def test_features_that_do_not_fit_or_do_not_stay_are_computed_anew_and_a_note_says_so(
    tmp_path: Path, disks: Path, encoder: Path
) -> None:
    given: dict[str, Any] = {"weights": "frozen", "encoder": encoder, "epochs": 1, "prepared": tmp_path / "prepared"}
    plain = _segment(tmp_path / "plain", disks, **given)
    small = _segment(tmp_path / "small", disks, feature_cache=1e-4, **given)
    assert small.points == plain.points
    assert any(level == "warning" and "more than the 0.0001 GB" in text for level, text in small.notes)
    trained = _segment(tmp_path / "trained", disks, weights="frozen", feature_cache=1.0, epochs=1)
    assert any("No features are kept" in text for _, text in trained.notes)


def test_real_masks_of_three_classes_are_learnt_and_reported_one_by_one(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "hela_human_patches"
    for number in range(1, 41):
        for kind, name in (("images", "Hela_Data_Slice_100"), ("masks_nucleus", "Hela_Label_Slice100")):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / kind / f"{name}_Sample_{number}.png", tmp_path / "set" / kind)
    heard = _segment(tmp_path / "out", tmp_path / "set", batch_size=8, decoder_width="half", epochs=10)
    assert [row["value"] for row in heard.figures["per_class"]] == [1, 2, 3]
    assert heard.figures["foreground_iou"] == pytest.approx(
        np.mean([row["iou"] for row in heard.figures["per_class"] if row["iou"] is not None])
    )
    assert heard.figures["foreground_iou"] > 0.3
    assert "average_precision" not in heard.figures
