"""Pretraining: what it makes, that it is the same each time, and that nothing is lost when it is killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ml_core.data.manifests import folder_manifest, manifest
from ml_core.errors import Stopped, UserError
from ml_core.job import checkpoints
from ml_core.job.inputs import Inputs, Slot
from ml_core.models import encoders
from ml_core.recipes import pretrain
from ml_core.runtime import weights
from ml_core.runtime.training_loop import open_context
from ml_core.specs import PretrainSpec
from tests.ml_core.reporters import Heard

pytestmark = pytest.mark.slow  # runs networks: seconds each

ROOT = Path(__file__).resolve().parents[3]
SMALL: dict[str, Any] = {
    "encoder": "resnet18",
    "image_size": 32,
    "batch_size": 4,
    "epochs": 2,
    "hidden_size": 32,
    "projection_size": 16,
    "points_every": 2,
    "threads": 1,
}


@pytest.fixture(scope="module")
def micrographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small pictures of smooth noise."""
    folder = tmp_path_factory.mktemp("micrographs")
    chance = np.random.default_rng(0)
    for number in range(12):
        coarse = Image.fromarray(chance.integers(0, 256, (12, 12), np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour planes for the twelve, as a colorize job leaves them."""
    path = tmp_path_factory.mktemp("colour") / "colour.safetensors"
    ab = torch.randint(100, 156, (12, 2, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    weights.save(path, {"ab": ab}, facts={"origin": "structured", "size": 8})
    return path


@pytest.fixture(scope="module")
def labelled(micrographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the twelve, each labelled with the half of the folder that it lies in."""
    plain = folder_manifest.from_folder(micrographs)
    items = [replace(item, label="first" if n < 6 else "second") for n, item in enumerate(plain.items)]
    path = tmp_path_factory.mktemp("labelled") / "manifest.jsonl"
    manifest.write(path, name=plain.name, classes={}, items=items)
    return path


class StopsAfter(Heard):
    """Wants to stop when it has been asked so many times; that is, after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def should_stop(self) -> bool:
        self._left -= 1
        return self._left == 0


def _pretrain(folder: Path, images: Path, heard: Heard, *, extend: Path | None = None, **given: Any) -> Heard:
    files = {name: given.pop(name) for name in ("colour", "start") if name in given}
    folder.mkdir(exist_ok=True)
    slots = {"dataset": Slot("dataset", {"folder" if images.is_dir() else "path": str(images)})}
    slots |= {name: Slot(name, {"path": str(path)}) for name, path in files.items()}
    inputs = Inputs(prepared=images.parent / "prepared", slots=slots, extend=extend)
    spec = PretrainSpec(**{**SMALL, **given})
    pretrain.run(open_context(spec, inputs=inputs, folder=folder, reporter=heard))
    return heard


def _artifact(heard: Heard, kind: str) -> tuple[Path, dict[str, Any]]:
    return next((path, facts) for found, path, facts in heard.artifacts if found == kind)


@pytest.mark.parametrize("policy", ["colour", "colour+crop", "byol"])
def test_every_view_policy_leaves_an_encoder_its_pairs_and_its_curves(
    tmp_path: Path, micrographs: Path, colour: Path, policy: str
) -> None:
    given = {} if policy == "byol" else {"colour": colour}
    heard = _pretrain(tmp_path / "one", micrographs, Heard(), views=policy, **given)
    path, facts = _artifact(heard, "encoder")
    encoder = weights.load_encoder(path)
    assert facts["origin"] == ("byol" if policy == "byol" else "byol-colour")
    assert encoder.facts["step"] == 6
    assert encoder.mean[0] == encoder.mean[2] > 0
    encoders.load_weights(encoders.build("resnet18"), encoder.tensors, architecture="resnet18", source=path.name)
    sheet, facts = _artifact(heard, "pairs")
    assert facts["step"] == 1
    with Image.open(sheet) as picture:
        assert picture.width > picture.height > 64
    for name in ("loss/train", "embedding_std", "effective_rank"):
        assert list(heard.curve(name)) == [2, 4, 6]
    assert heard.records["steps_per_epoch"] == 3
    assert heard.figures["images"] == 12
    assert heard.figures["healthy_std"] == 0.25
    assert not heard.curve("knn_accuracy/validation"), "there are no labels"
    assert "knn_accuracy" not in heard.figures
    assert [text for level, text in heard.notes if level == "warning"] == [], "a healthy network is not warned of"

    again = _pretrain(tmp_path / "two", micrographs, Heard(), views=policy, **given)
    assert again.points == heard.points, "the same seed says the same"
    assert _artifact(again, "encoder")[0].read_bytes() == path.read_bytes()


def test_the_loss_falls(tmp_path: Path, micrographs: Path, colour: Path) -> None:
    heard = _pretrain(tmp_path / "out", micrographs, Heard(), epochs=12, colour=colour, learning_rate=1e-3)
    losses = list(heard.curve("loss/train").values())
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


def test_colour_views_without_colour_planes_are_refused(tmp_path: Path, micrographs: Path) -> None:
    with pytest.raises(UserError, match="colorize"):
        _pretrain(tmp_path / "out", micrographs, Heard(), views="colour")


def test_colour_planes_of_another_dataset_are_refused(tmp_path: Path, micrographs: Path) -> None:
    path = tmp_path / "other.safetensors"
    weights.save(path, {"ab": torch.zeros(7, 2, 8, 8, dtype=torch.uint8)}, facts={})
    with pytest.raises(UserError, match=r"7 .* 12"):
        _pretrain(tmp_path / "out", micrographs, Heard(), colour=path)


def test_a_single_image_is_refused(tmp_path: Path, micrographs: Path) -> None:
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    (lonely / "a.png").write_bytes((micrographs / "00.png").read_bytes())
    with pytest.raises(UserError, match="at least 2 images"):
        _pretrain(tmp_path / "out", lonely, Heard(), views="byol")


def test_it_starts_from_an_encoder_that_it_is_given(tmp_path: Path, micrographs: Path) -> None:
    first = _pretrain(tmp_path / "one", micrographs, Heard(), views="byol", epochs=1)
    start, _ = _artifact(first, "encoder")
    second = _pretrain(tmp_path / "two", micrographs, Heard(), views="byol", epochs=1, start=start, learning_rate=1e-12)
    before, after = weights.load_encoder(start), weights.load_encoder(_artifact(second, "encoder")[0])
    torch.testing.assert_close(after.tensors["conv1.weight"], before.tensors["conv1.weight"], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_an_encoder_of_one_channel_cannot_be_pretrained_on_and_the_sentence_says_so(
    tmp_path: Path, micrographs: Path
) -> None:
    tensors = encoders.build("resnet18", channels=1).state_dict()
    kept = weights.Encoder(tensors, architecture="resnet18", channels=1, mean=(0.5,), deviation=(0.1,))
    start = tmp_path / "one.safetensors"
    weights.save_encoder(start, kept)
    with pytest.raises(UserError, match="takes 1 channel, and the views of a pretraining have 3"):
        _pretrain(tmp_path / "out", micrographs, Heard(), views="byol", epochs=1, start=start)


def test_an_encoder_that_answers_the_same_for_every_image_is_warned_of(tmp_path: Path, micrographs: Path) -> None:
    alike = tmp_path / "alike"
    alike.mkdir()
    pixels = np.asarray(Image.open(micrographs / "00.png"))
    for number in range(4):
        # One pixel apart, as files that are the same would be one image.
        Image.fromarray(pixels + (np.arange(pixels.size).reshape(pixels.shape) == number).astype(np.uint8)).save(
            alike / f"{number}.png"
        )
    colour = tmp_path / "colour.safetensors"
    weights.save(colour, {"ab": torch.full((4, 2, 8, 8), 140, dtype=torch.uint8)}, facts={})
    heard = _pretrain(
        tmp_path / "out",
        alike,
        Heard(),
        colour=colour,
        batch_norm="per_view",
        points_every=1,
        epochs=6,
        precision="float32",
    )
    warnings = [text for level, text in heard.notes if level == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("The embedding has collapsed: spread 0.0")
    assert "where 0.250 is healthy" in warnings[0]


def test_a_network_that_has_collapsed_is_warned_of(tmp_path: Path, micrographs: Path) -> None:
    healthy = weights.load_encoder(
        _artifact(_pretrain(tmp_path / "healthy", micrographs, Heard(), views="byol", epochs=1), "encoder")[0]
    )
    # Its last stage says 0 whatever the image is, and as its ReLUs then have no slope, it cannot learn otherwise.
    last = {name for name in healthy.tensors if name.startswith("layer4.") and ("bn" in name or "downsample.1" in name)}
    tensors = {
        name: torch.zeros_like(value) if name in last and name.endswith(("weight", "bias")) else value
        for name, value in healthy.tensors.items()
    }
    start = tmp_path / "collapsed.safetensors"
    weights.save_encoder(start, replace(healthy, tensors=tensors))
    heard = _pretrain(tmp_path / "out", micrographs, Heard(), views="byol", start=start, points_every=1, epochs=3)
    warnings = [text for level, text in heard.notes if level == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("The embedding has collapsed: spread 0.000, where 0.250 is healthy.")
    assert heard.figures["embedding_std"] < 1e-3


def test_with_labels_neighbours_judge_the_encoder_and_the_training_does_not_notice(
    tmp_path: Path, micrographs: Path, labelled: Path
) -> None:
    given: dict[str, Any] = {"views": "byol", "epochs": 5}
    judged = _pretrain(tmp_path / "judged", labelled, Heard(), knn_every=2, **given)
    assert list(judged.curve("knn_accuracy/validation")) == [6, 12, 15]
    assert all(0 <= value <= 1 for value in judged.curve("knn_accuracy/validation").values())
    assert judged.figures["knn_accuracy"] == judged.curve("knn_accuracy/validation")[15]
    assert any("9 labelled images name the class of 3 others, 2 classes" in text for _, text in judged.notes)

    never = _pretrain(tmp_path / "never", labelled, Heard(), knn_every=0, **given)
    assert "knn_accuracy" not in never.figures
    assert never.points == [point for point in judged.points if not point[0].startswith("knn_accuracy")]
    assert _artifact(never, "encoder")[0].read_bytes() == _artifact(judged, "encoder")[0].read_bytes()

    halves = tmp_path / "halves"
    stopped = StopsAfter(7)
    with pytest.raises(Stopped):
        _pretrain(halves, labelled, stopped, knn_every=2, **given)
    resumed = _pretrain(halves, labelled, Heard(), knn_every=2, **given)
    assert resumed.records["resumed_step"] == 7
    assert stopped.points + resumed.points == judged.points
    assert resumed.figures == judged.figures


@pytest.mark.parametrize("encoder", ["resnet18", "attention26"])
def test_in_bfloat16_too_a_resumed_run_is_the_same_run(tmp_path: Path, micrographs: Path, encoder: str) -> None:
    given: dict[str, Any] = {"views": "byol", "precision": "bfloat16", "encoder": encoder}
    whole = _pretrain(tmp_path / "whole", micrographs, Heard(), **given)
    stopped = StopsAfter(3)
    with pytest.raises(Stopped):
        _pretrain(tmp_path / "halves", micrographs, stopped, **given)
    resumed = _pretrain(tmp_path / "halves", micrographs, Heard(), **given)
    assert whole.records["precision"] == "bfloat16"
    assert stopped.points + resumed.points == whole.points
    assert _artifact(resumed, "encoder")[0].read_bytes() == _artifact(whole, "encoder")[0].read_bytes()


def test_five_epochs_and_five_more_are_ten(tmp_path: Path, labelled: Path) -> None:
    given: dict[str, Any] = {"views": "byol", "batch_size": 6, "points_every": 4}
    ten = _pretrain(tmp_path / "ten", labelled, Heard(), epochs=10, **given)
    five = _pretrain(tmp_path / "five", labelled, Heard(), epochs=5, **given)
    more = _pretrain(tmp_path / "more", labelled, Heard(), epochs=10, extend=five.checkpoints[-1][1], **given)
    assert more.records["extended_step"] == 10
    later = [point for point in ten.points if point[1] > 10]
    assert more.points == later, "bit for bit"
    assert _artifact(more, "encoder")[0].read_bytes() == _artifact(ten, "encoder")[0].read_bytes()
    assert not any("cosine" in text for _, text in more.notes)


def test_on_a_cosine_more_epochs_are_not_the_longer_run_and_the_page_is_told(tmp_path: Path, micrographs: Path) -> None:
    given: dict[str, Any] = {"views": "byol", "momentum_schedule": "cosine"}
    first = _pretrain(tmp_path / "first", micrographs, Heard(), epochs=1, **given)
    stopped = StopsAfter(1)
    with pytest.raises(Stopped):
        _pretrain(tmp_path / "more", micrographs, stopped, epochs=2, extend=first.checkpoints[-1][1], **given)
    assert any("takes up the cosine of all 2 epochs where it stands, at 0.9950" in text for _, text in stopped.notes)
    resumed = _pretrain(tmp_path / "more", micrographs, Heard(), epochs=2, extend=first.checkpoints[-1][1], **given)
    assert not any("cosine" in text for _, text in resumed.notes), "once is enough"


def test_a_loss_that_is_no_number_ends_it_with_a_sentence_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, micrographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    whole = pretrain.Pairs.views

    def broken(pairs: pretrain.Pairs, positions: Any) -> tuple[torch.Tensor, torch.Tensor]:
        view_1, view_2 = whole(pairs, positions)
        return view_1, view_2 * float("nan") if heard.checkpoints else view_2

    monkeypatch.setattr(pretrain.Pairs, "views", broken)
    with pytest.raises(UserError) as told:
        _pretrain(tmp_path / "out", micrographs, heard, views="byol", epochs=10_000, checkpoint_seconds=1)
    kept = checkpoints.newest(tmp_path / "out" / "checkpoints")
    assert kept is not None
    step = checkpoints.step_of(kept)
    assert str(told.value) == (
        f"The loss stopped being a finite number at step {step + 1:,}. Halve the learning rate (now 0.0003) and start "
        f"again. The checkpoint of step {step:,} is kept."
    )
    state = torch.load(kept / "state.pt", weights_only=True)["state"]["network"]
    assert all(bool(torch.isfinite(value).all()) for value in state.values())
    assert not np.isfinite(heard.curve("loss/train")[step + 1])
    assert all(kind != "encoder" for kind, _, _ in heard.artifacts)


def test_stopping_leaves_a_checkpoint_and_no_encoder(tmp_path: Path, micrographs: Path) -> None:
    heard = Heard()
    heard.stop = True
    with pytest.raises(Stopped):
        _pretrain(tmp_path / "out", micrographs, heard, views="byol")
    assert [step for step, _ in heard.checkpoints] == [1]
    assert all(kind != "encoder" for kind, _, _ in heard.artifacts)


def _run(folder: Path, micrographs: Path, spec: Path, *, kills: list[int]) -> list[int]:
    """Runs the command line with SIGKILL at these steps, then once more to the end; returns the exit codes."""
    command = ["run", str(spec), "--workdir", str(folder), "--dataset", str(micrographs)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.ml_core.killing", json.dumps(command), json.dumps(kills)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "CRISTAE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    codes: list[int] = json.loads(ended.stdout.splitlines()[-1])
    return codes


def _events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def _curve(folder: Path) -> dict[tuple[str, int], Any]:
    """The points, a step that was said again counting as said last."""
    return {
        (event["name"], event["step"]): (event["value"], event.get("low"), event.get("high"))
        for event in _events(folder)
        if event["kind"] == "point"
    }


@pytest.mark.slow
def test_killed_at_random_steps_it_ends_with_the_same_weights_and_the_same_curve(
    tmp_path: Path, micrographs: Path
) -> None:
    steps = 60
    given = {**SMALL, "views": "byol", "epochs": steps // 3}
    often, never = tmp_path / "often.json", tmp_path / "never.json"
    often.write_text(PretrainSpec(**given, checkpoint_seconds=1).model_dump_json())
    never.write_text(PretrainSpec(**given, checkpoint_seconds=3600).model_dump_json())
    assert _run(tmp_path / "undisturbed", micrographs, never, kills=[]) == [0]

    kills = sorted(random.Random(4).sample(range(10, steps - 5), 3))
    disturbed = tmp_path / "disturbed"
    assert _run(disturbed, micrographs, often, kills=kills) == [-9] * 3 + [0]

    resumed = [event["data"]["resumed_step"] for event in _events(disturbed) if "resumed_step" in event.get("data", {})]
    assert resumed, "a restart that finds no checkpoint proves nothing"
    assert _curve(disturbed) == _curve(tmp_path / "undisturbed")
    name = Path("artifacts") / "encoder.safetensors"
    assert (disturbed / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
