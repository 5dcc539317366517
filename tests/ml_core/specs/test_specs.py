"""Specifications: what they refuse, what they need, what they remember of their preset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_core.specs import SPECS, SpecError, differences, fields_of, format_field, from_preset, load_spec, presets_of
from ml_core.specs.cam import METHOD_NAMES

KINDS = [kind for kind in SPECS if presets_of(kind)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", ["paper", "recommended", "quick"])
def test_every_preset_is_valid_and_does_not_differ_from_itself(kind: str, preset: str) -> None:
    spec = from_preset(kind, preset)
    assert differences(spec) == {}
    assert load_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_form_has_a_label_and_a_sentence_of_refusal(kind: str) -> None:
    for field in fields_of(kind):
        assert field.label
        assert field.refusal.endswith(".")


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        ("segment", "decoder", "unet", "U-Net (paper)"),
        ("segment", "epochs", 200, "200 epochs"),
        ("segment", "epochs", 1, "1 epoch"),
        ("segment", "feature_cache", 0.0, "off"),
        ("segment", "feature_cache", 1.5, "1.5 GB"),
        ("segment", "learning_rate", 5e-5, "0.00005"),
        ("segment", "mask_layer", "", "the only one"),
        ("segment", "mask_layer", "membranes", "membranes"),
        ("segment", "prediction_flips", False, "no"),
        ("pretrain", "hidden_size", 4096, "4,096"),
        ("pretrain", "threads", 0, "as many as the machine has"),
        ("pretrain", "epochs", None, "-"),
    ],
)
def test_a_value_is_told_as_a_person_reads_it(kind: str, name: str, value: object, words: str) -> None:
    (info,) = [info for info in fields_of(kind) if info.name == name]
    assert format_field(info, value) == words


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_stands_only_for_a_value_that_its_field_takes(kind: str) -> None:
    for info in fields_of(kind):
        for text in info.words:
            assert load_spec({"kind": kind, info.name: text})


def test_a_bad_value_is_refused_with_the_sentence_of_its_field() -> None:
    with pytest.raises(SpecError) as caught:
        load_spec({"kind": "pretrain", "image_size": 65})
    (refusal,) = caught.value.refusals
    assert refusal.field == "image_size"
    assert "multiple of 32" in refusal.sentence


def test_an_unknown_field_is_an_error_and_is_named() -> None:
    with pytest.raises(SpecError, match=r"epoch: .*spelling"):
        load_spec({"kind": "pretrain", "epoch": 3})


def test_an_unknown_kind_or_version_says_what_there_is() -> None:
    with pytest.raises(SpecError, match="pretrain"):
        load_spec({"kind": "pretraining"})
    with pytest.raises(SpecError, match="Version 99"):
        load_spec({"kind": "pretrain", "version": 99})


def test_the_paper_preset_holds_the_papers_figures() -> None:
    pretrain = from_preset("pretrain", "paper").model_dump()
    wanted = {"encoder": "resnet50", "views": "colour", "image_size": 128, "batch_size": 20, "epochs": 100}
    wanted |= {"learning_rate": 3e-4, "momentum": 0.99, "momentum_schedule": "constant", "batch_norm": "cat"}
    assert {k: pretrain[k] for k in wanted} == wanted
    segment = from_preset("segment", "paper").model_dump()
    wanted = {"image_size": 224, "framing": "resize", "batch_size": 4, "epochs": 200, "learning_rate": 5e-4}
    wanted |= {"schedule": "plateau", "patience": 15, "weights": "frozen", "validation": "random"}
    assert {k: segment[k] for k in wanted} == wanted


def test_five_methods_can_be_chosen_for_activation_maps() -> None:
    method = next(field for field in fields_of("cam") if field.name == "method")
    assert dict(method.choices) == {
        "gradcam": "Grad-CAM",
        "gradcamplusplus": "Grad-CAM++",
        "layercam": "LayerCAM",
        "eigencam": "EigenCAM",
        "scorecam": "Score-CAM",
    }
    assert all(name in method.help for name in METHOD_NAMES.values())


def test_a_specification_says_which_inputs_its_fields_call_for() -> None:
    grey_against_colour = from_preset("pretrain", "quick", views="colour")
    assert [r.field for r in grey_against_colour.lacking(["dataset"])] == ["colour"]
    assert from_preset("pretrain", "quick", views="byol").lacking(["dataset"]) == []
    assert [r.field for r in from_preset("cam", "quick", method="gradcam").lacking(["dataset", "encoder"])] == [
        "segmenter"
    ]
    assert [r.field for r in from_preset("cam", "quick", method="eigencam").lacking(["dataset"])] == ["encoder"]
    for method, name in METHOD_NAMES.items():
        refusals = from_preset("cam", "quick", method=method).lacking(["dataset", "encoder"])
        sentences = [f"{name} needs a segmentation model or a classifier" in r.sentence for r in refusals]
        assert sentences == ([] if method == "eigencam" else [True])
    assert [r.field for r in from_preset("segment", "quick").lacking([])] == ["dataset"]


OLD = sorted((Path(__file__).parent / "specs_of_version_1").glob("*.json"))


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_a_specification_that_was_stored_once_loads_for_ever_and_says_the_same(path: Path) -> None:
    stored = json.loads(path.read_text())
    loaded = load_spec(stored).model_dump(mode="json")
    assert {name: loaded[name] for name in stored if name != "version"} == {
        name: value for name, value in stored.items() if name != "version"
    }


def test_there_are_stored_specifications_of_every_kind_that_people_submit() -> None:
    assert {path.stem.rpartition("-")[0] for path in OLD} == set(KINDS)
