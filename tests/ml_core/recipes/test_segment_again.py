"""Segmentation: the same seed, a stop or a kill, and it is the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_core.errors import Stopped
from ml_core.runtime import weights
from ml_core.specs import SegmentSpec
from tests.ml_core.reporters import Heard
from tests.ml_core.segmenting import SMALL, artifacts, disks, encoder, segmented

__all__ = ["disks", "encoder"]  # fixtures
pytestmark = pytest.mark.slow  # runs networks: seconds each

ROOT = Path(__file__).resolve().parents[3]


def test_the_same_seed_says_the_same(tmp_path: Path, disks: Path) -> None:
    first = segmented(tmp_path / "one", disks, framing="crops")
    again = segmented(tmp_path / "two", disks, framing="crops")
    assert first.points == again.points


def test_stopping_leaves_a_checkpoint_and_no_model(tmp_path: Path, disks: Path) -> None:
    # Another job has prepared the images; preparing them would stop as well.
    segmented(tmp_path / "earlier", disks, epochs=1, prepared=tmp_path / "prepared")
    heard = Heard()
    heard.stop = True
    with pytest.raises(Stopped):
        segmented(tmp_path / "out", disks, heard=heard, prepared=tmp_path / "prepared")
    assert [step for step, _ in heard.checkpoints] == [1]
    assert not artifacts(heard, "segmenter")


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
    monkeypatch.setattr("ml_core.runtime.training_loop.DRAIN_SECONDS", 0.0)  # so that each step is said at once
    given: dict[str, Any] = {"weights": "frozen", "feature_cache": 1.0, "encoder": encoder, "epochs": 4}
    given["prepared"] = tmp_path / "prepared"
    whole = segmented(tmp_path / "whole", disks, **given)
    assert any("16 forms and its features are kept" in text for _, text in whole.notes)
    with pytest.raises(Stopped):
        segmented(tmp_path / "parted", disks, heard=StoppedAfter(3), **given)
    rest = segmented(tmp_path / "parted", disks, **given)
    assert 0 < rest.records["resumed_step"] < 8
    one, two = (weights.load(artifacts(heard, "segmenter_last")[0][0]).tensors for heard in (whole, rest))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    before = weights.load_encoder(encoder).tensors
    assert all(torch.equal(one[f"encoder.{name}"], value) for name, value in before.items())
