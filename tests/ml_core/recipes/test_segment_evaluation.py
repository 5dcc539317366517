"""Segmentation: which weights are kept, and how they are judged."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ml_core.recipes import segment
from ml_core.runtime import weights
from tests.ml_core.disks import write_disks
from tests.ml_core.segmenting import artifacts, disks, segmented

__all__ = ["disks"]  # fixtures
pytestmark = pytest.mark.slow  # runs networks: seconds each


def test_the_weights_kept_are_those_of_the_best_epoch(tmp_path: Path, disks: Path) -> None:
    heard = segmented(tmp_path / "out", disks, epochs=5)
    curve = heard.curve("foreground_iou/validation")
    assert curve[heard.figures["best_step"]] == max(curve.values())
    assert heard.figures["foreground_iou"] == pytest.approx(max(curve.values()), abs=1e-6)


def test_the_weights_of_the_end_are_kept_where_that_is_asked_for(tmp_path: Path, disks: Path) -> None:
    heard = segmented(tmp_path / "out", disks, epochs=5, judged="last")
    curve = heard.curve("foreground_iou/validation")
    assert heard.figures["judged_step"] == max(curve)
    assert heard.figures["foreground_iou"] == pytest.approx(curve[max(curve)], abs=1e-6)
    assert curve[heard.figures["best_step"]] == max(curve.values())
    [(path, facts)] = artifacts(heard, "segmenter")
    [(last, _)] = artifacts(heard, "segmenter_last")
    assert facts["step"] == max(curve)
    assert last == path  # one file for both
    kept, end = weights.load(path).tensors, weights.load(last).tensors
    assert all(torch.equal(kept[name], end[name]) for name in kept)


def test_a_test_part_is_what_results_are_judged_on(tmp_path: Path) -> None:
    write_disks(tmp_path / "set" / "training", sizes=[(32, 32)] * 6)
    write_disks(tmp_path / "set" / "testing", sizes=[(32, 32)] * 3, seed=1)
    heard = segmented(tmp_path / "out", tmp_path / "set", epochs=1)
    assert heard.figures["part"] == "test"
    assert heard.figures["images"] == 3
    assert all(row["name"].startswith("testing/") for row in heard.figures["per_image"])


def test_the_last_weights_are_kept_beside_the_best(tmp_path: Path, disks: Path) -> None:
    heard = segmented(tmp_path / "out", disks, architecture="casser", epochs=5)
    [(last, facts)] = artifacts(heard, "segmenter_last")
    assert facts["step"] == 10
    state = torch.load(heard.checkpoints[-1][1] / "state.pt", weights_only=True)["state"]
    kept = weights.load(last).tensors
    assert kept.keys() == state["network"].keys()
    assert all(torch.equal(kept[name], value) for name, value in state["network"].items())
    [(best, _)] = artifacts(heard, "segmenter")
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
    heard = segmented(tmp_path / "out", disks, architecture="casser", epochs=9, early_stop=2)
    assert any("Stopped early after epoch 4: no better validation score since epoch 2." in t for _, t in heard.notes)
    assert heard.records["total_steps"] == 8
    assert heard.figures["best_epoch"] == 2
    assert [step for step, _ in heard.checkpoints][-1] == 8


def test_the_threshold_is_the_best_on_validation_and_is_what_the_results_and_the_model_use(tmp_path: Path) -> None:
    write_disks(tmp_path / "set" / "training", sizes=[(48, 48)] * 8)
    write_disks(tmp_path / "set" / "testing", sizes=[(48, 48)] * 6, seed=1)
    given: dict[str, Any] = {"epochs": 5, "prepared": tmp_path / "prepared"}
    half = segmented(tmp_path / "half", tmp_path / "set", **given)
    chosen = segmented(tmp_path / "chosen", tmp_path / "set", threshold="validation", **given)
    [(table, facts)] = [(p, f) for p, f in artifacts(chosen, "table") if p.name == "precision-recall.csv"]
    assert facts["part"] == "validation"
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(float(row["foreground_iou"]) for row in rows)
    threshold = chosen.figures["threshold"]
    assert threshold != 0.5, "a threshold that is chosen by chance would show nothing"
    assert float(rows[round(threshold * 1024)]["foreground_iou"]) == best
    [(_, facts)] = artifacts(chosen, "segmenter")
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
    figures = segmented(tmp_path / "six", tmp_path / "set", epochs=4).figures
    low, high = figures["foreground_iou_interval"]
    assert figures["groups"] == 6
    assert low < figures["foreground_iou"] < high
    values = [row["foreground_iou"] for row in figures["per_image"]]
    assert figures["foreground_iou_per_image"] == pytest.approx(np.mean(values))
    two = segmented(tmp_path / "two", disks, architecture="casser", epochs=1).figures
    assert two["groups"] == 2
    assert "foreground_iou_interval" not in two


def test_every_image_stands_in_the_table(tmp_path: Path, disks: Path) -> None:
    heard = segmented(tmp_path / "out", disks, architecture="casser")
    [path] = [path for path, _ in artifacts(heard, "table") if path.name == "per-image.csv"]
    with open(path, newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: float(row["foreground_iou"]) for name, row in rows.items()} == {
        row["name"]: pytest.approx(row["foreground_iou"]) for row in heard.figures["per_image"]
    }


def test_averaged_weights_are_what_is_validated_and_kept(tmp_path: Path, disks: Path) -> None:
    heard = segmented(tmp_path / "out", disks, architecture="casser", average=0.8, epochs=3)
    state = torch.load(heard.checkpoints[-1][1] / "state.pt", weights_only=True)["state"]
    mean = {name.removeprefix("network."): value for name, value in state["average"].items()}
    [(last, _)] = artifacts(heard, "segmenter_last")
    kept = weights.load(last).tensors
    assert all(torch.equal(kept[name], mean[name]) for name in kept)
    assert not torch.equal(kept["decoder.up.0.weight"], state["network"]["decoder.up.0.weight"])


def test_validation_comes_as_often_as_was_asked_and_after_the_last_epoch(tmp_path: Path, disks: Path) -> None:
    heard = segmented(tmp_path / "out", disks, architecture="casser", validate_every=3, epochs=5)
    assert list(heard.curve("foreground_iou/validation")) == [6, 10]


def test_larger_tiles_and_flips_judge_the_same_network_otherwise(tmp_path: Path, disks: Path) -> None:
    given: dict[str, Any] = {"framing": "crops", "decoder": "fpn", "epochs": 1, "prepared": tmp_path / "prepared"}
    plain = segmented(tmp_path / "plain", disks, **given)
    wide = segmented(tmp_path / "wide", disks, prediction_tile=64, prediction_flips=True, **given)
    one, two = (weights.load(artifacts(heard, "segmenter")[0][0]) for heard in (plain, wide))
    assert all(torch.equal(value, two.tensors[name]) for name, value in one.tensors.items())
    assert one.facts["decoder"] == "fpn"
    assert plain.figures["average_precision"] != wide.figures["average_precision"]


def test_real_masks_of_three_classes_are_learnt_and_reported_one_by_one(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "hela_human_patches"
    for number in range(1, 41):
        for kind, name in (("images", "Hela_Data_Slice_100"), ("masks_nucleus", "Hela_Label_Slice100")):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / kind / f"{name}_Sample_{number}.png", tmp_path / "set" / kind)
    heard = segmented(tmp_path / "out", tmp_path / "set", batch_size=8, decoder_width="half", epochs=10)
    assert [row["value"] for row in heard.figures["per_class"]] == [1, 2, 3]
    assert heard.figures["foreground_iou"] == pytest.approx(
        np.mean([row["iou"] for row in heard.figures["per_class"] if row["iou"] is not None])
    )
    assert heard.figures["foreground_iou"] > 0.3
    assert "average_precision" not in heard.figures
