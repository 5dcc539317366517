"""Fields that have no effect beside the others: the rules say what the recipes do."""

from __future__ import annotations

import pytest

from ml_core.specs import SPECS, fields_of, from_preset, load_spec, presets_of, without_effect
from ml_core.specs.inactive_fields import OWN_VALIDATION

KINDS = [kind for kind in SPECS if presets_of(kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_looks_at_fields_further_up_and_at_inputs_that_there_are(kind: str) -> None:
    inputs = {slot.name for slot in SPECS[kind].inputs} | {OWN_VALIDATION}
    above: set[str] = set()
    for info in fields_of(kind):
        for rule in info.idle:
            assert set(rule["fields"]) <= above
            assert {*rule["given"], *rule["absent"]} <= inputs
            for name, values in rule["fields"].items():
                for value in values:
                    assert load_spec({"kind": kind, name: value})
        above.add(info.name)
    for slot in SPECS[kind].inputs:
        assert all(set(rule["fields"]) <= above for rule in slot.idle)


def test_a_pretrained_encoder_says_the_architecture_and_leaves_nothing_to_begin_from() -> None:
    spec = from_preset("segment", "paper").model_dump()
    given = without_effect("segment", spec, given=["dataset", "encoder"])
    assert given["encoder"] == "encoder"
    assert given["initial"] == ""
    assert "weights" not in given
    alone = without_effect("segment", spec, given=["dataset"])
    assert "encoder" not in alone
    assert "weights" in alone  # there is nothing to freeze
    assert "weights" not in without_effect("segment", spec | {"initial": "imagenet"}, given=["dataset"])


@pytest.mark.parametrize(
    ("changes", "given", "idle"),
    [
        ({"framing": "resize"}, [], {"resolution", "prediction_tile"}),
        ({"framing": "crops"}, [], {"feature_cache"}),
        ({"schedule": "cosine"}, [], {"patience"}),
        ({"encoder": "casser"}, [], {"decoder", "decoder_width"}),
        ({"validation": "dataset"}, [OWN_VALIDATION], {"validation_share"}),
    ],
)
def test_what_one_field_makes_of_others(changes: dict[str, str], given: list[str], idle: set[str]) -> None:
    spec = from_preset("segment", "paper").model_dump() | {"weights": "frozen", "initial": "imagenet"}
    plain = set(without_effect("segment", spec | {"framing": "neither"}, given=[]))
    assert set(without_effect("segment", spec | {"framing": "neither"} | changes, given=given)) - plain == idle


def test_an_architecture_that_an_encoder_stands_in_for_decides_nothing() -> None:
    spec = from_preset("segment", "paper").model_dump() | {"encoder": "casser"}
    assert "decoder" not in without_effect("segment", spec, given=["encoder"])
