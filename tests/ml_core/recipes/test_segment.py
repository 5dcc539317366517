"""Segmentation: what it makes, what frozen means, how its rate goes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ml_core.errors import UserError
from ml_core.exchange import imagenet as imagenet_weights
from ml_core.models.unet import segmenter_from
from ml_core.recipes import segment
from ml_core.runtime import weights
from ml_core.specs import SegmentSpec
from tests.ml_core.disks import write_disks
from tests.ml_core.segmenting import SMALL, artifacts, disks, encoder, segmented

__all__ = ["disks", "encoder"]  # fixtures
pytestmark = pytest.mark.slow  # runs networks: seconds each


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
    heard = segmented(tmp_path / "out", images, **given)
    figures = heard.figures
    assert figures["foreground_iou"] > 0.5
    assert figures["mean_iou"] == pytest.approx((figures["foreground_iou"] + figures["background_iou"]) / 2)
    assert 0.3 < figures["floor"] < 0.5
    assert figures["part"] == "validation"
    assert figures["images"] == len(figures["per_image"]) == 2
    assert "at random" in figures["split"]
    pictures = artifacts(heard, "prediction")
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
    heard = segmented(tmp_path / "out", disks)
    assert list(heard.curve("loss/train")) == [1, 2, 3, 4]
    for name in ("loss/validation", "foreground_iou/validation", "background_iou/validation", "mean_iou/validation"):
        assert list(heard.curve(name)) == [2, 4]
    sheets = artifacts(heard, "sample")
    assert [facts["step"] for _, facts in sheets] == [2, 4]
    assert sheets[0][1]["items"] == sheets[1][1]["items"]
    [(path, facts)] = artifacts(heard, "segmenter")
    expected = {"architecture": "resnet18", "channels": 3, "origin": "random", "image_size": 32, "classes": [0, 255]}
    expected |= {"mask_layer": "mask", "threshold": 0.5, "framing": "resize", "decoder": "unet"}
    assert {name: facts[name] for name in expected} == expected
    assert facts["step"] == heard.figures["best_step"] in (2, 4)
    segmenter = segmenter_from(weights.load(path), source=path.name)
    assert segmenter(torch.rand(1, 1, 32, 32)).shape == (1, 1, 32, 32)


def test_several_classes_are_learnt_under_the_values_of_their_masks(tmp_path: Path) -> None:
    images = write_disks(tmp_path / "set", sizes=[(48, 48)] * 8, values=(100, 200))
    heard = segmented(tmp_path / "out", images, epochs=16)
    assert [row["value"] for row in heard.figures["per_class"]] == [100, 200]
    assert heard.figures["foreground_iou"] == pytest.approx(np.mean([row["iou"] for row in heard.figures["per_class"]]))
    assert heard.figures["foreground_iou"] > 0.3
    [(_, facts)] = artifacts(heard, "segmenter")
    assert facts["classes"] == [0, 100, 200]
    found = {int(v) for path, _ in artifacts(heard, "prediction") for v in np.unique(np.asarray(Image.open(path)))}
    assert found == {0, 1, 2}


def test_a_frozen_encoder_comes_out_as_it_went_in(tmp_path: Path, disks: Path, encoder: Path) -> None:
    heard = segmented(tmp_path / "out", disks, encoder=encoder, weights="frozen")
    [(path, facts)] = artifacts(heard, "segmenter")
    assert facts["origin"] == "byol-colour"
    assert facts["mean"] == pytest.approx([0.4] * 3)
    after = weights.load(path).tensors
    for name, tensor in weights.load_encoder(encoder).tensors.items():
        assert torch.equal(after[f"encoder.{name}"], tensor), name


def test_a_fine_tuned_encoder_starts_from_the_given_weights_and_moves(
    tmp_path: Path, disks: Path, encoder: Path
) -> None:
    heard = segmented(tmp_path / "out", disks, encoder=encoder, learning_rate=1e-4)
    after = weights.load(artifacts(heard, "segmenter")[0][0]).tensors["encoder.conv1.weight"]
    before = weights.load_encoder(encoder).tensors["conv1.weight"]
    assert 0 < (after - before).abs().max() < 0.01


def test_without_a_pretrained_encoder_frozen_is_not_taken_at_its_word(tmp_path: Path, disks: Path) -> None:
    heard = segmented(tmp_path / "out", disks, weights="frozen", epochs=1)
    assert any("trained from random weights" in text for _, text in heard.notes)


def test_the_cosine_rate_falls_from_its_start_to_nothing(tmp_path: Path, disks: Path) -> None:
    rate = list(segmented(tmp_path / "out", disks, schedule="cosine").curve("learning_rate").values())
    assert rate == pytest.approx([2e-3 * (1 + np.cos(np.pi * k / 4)) / 2 for k in range(4)])


def test_the_plateau_rate_falls_to_a_tenth_when_the_validation_loss_does_not(
    tmp_path: Path, disks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = segment.Validation(points={"loss/validation": 1.0}, score=0.5, shown={}, per_image={})
    monkeypatch.setattr(segment, "_validate", lambda *_: stuck)
    monkeypatch.setattr(segment, "_show", lambda *_, **__: None)
    rate = segmented(tmp_path / "out", disks, schedule="plateau", patience=1, epochs=4).curve("learning_rate")
    assert list(rate.values()) == pytest.approx([2e-3] * 6 + [2e-4] * 2)


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
        segmented(tmp_path / "out", _masks(tmp_path / "set", change))


def test_the_named_layer_of_several_is_learnt(tmp_path: Path) -> None:
    heard = segmented(tmp_path / "out", _masks(tmp_path / "set", "layers"), mask_layer="membranes", epochs=1)
    [(_, facts)] = artifacts(heard, "segmenter")
    assert facts["mask_layer"] == "membranes"
    with pytest.raises(UserError, match="no mask layer axons"):
        segmented(tmp_path / "two", tmp_path / "set", mask_layer="axons")


def test_one_image_of_32_px_at_a_time_is_refused(tmp_path: Path, disks: Path) -> None:
    with pytest.raises(UserError, match="batch of 2"):
        segmented(tmp_path / "out", disks, batch_size=1)


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


def test_cassers_network_sees_one_channel_and_comes_back_from_its_file(tmp_path: Path, disks: Path) -> None:
    heard = segmented(tmp_path / "out", disks, architecture="casser", epochs=1)
    [(path, facts)] = artifacts(heard, "segmenter")
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

    monkeypatch.setattr(imagenet_weights, "imagenet", imagenet)
    heard = segmented(tmp_path / "out", disks, initial="imagenet", weights="frozen", epochs=1)
    assert asked == [("resnet18", None, tmp_path / "out" / "prepared" / "weights")]
    [(path, facts)] = artifacts(heard, "segmenter")
    assert facts["origin"] == "imagenet"
    kept = weights.load(path).tensors["encoder.conv1.weight"]
    assert torch.equal(kept, weights.load_encoder(encoder).tensors["conv1.weight"])


def test_features_that_do_not_fit_or_do_not_stay_are_computed_anew_and_a_note_says_so(
    tmp_path: Path, disks: Path, encoder: Path
) -> None:
    given: dict[str, Any] = {"weights": "frozen", "encoder": encoder, "epochs": 1, "prepared": tmp_path / "prepared"}
    plain = segmented(tmp_path / "plain", disks, **given)
    small = segmented(tmp_path / "small", disks, feature_cache=1e-4, **given)
    assert small.points == plain.points
    assert any(level == "warning" and "more than the 0.0001 GB" in text for level, text in small.notes)
    trained = segmented(tmp_path / "trained", disks, weights="frozen", feature_cache=1.0, epochs=1)
    assert any("No features are kept" in text for _, text in trained.notes)
