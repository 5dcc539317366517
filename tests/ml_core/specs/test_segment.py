"""What a segmentation can be asked for, and what is refused at its field."""

from __future__ import annotations

from typing import Any

import pytest

from ml_core.specs import SegmentSpec, SpecError, from_preset, load_spec
from ml_core.specs.segment import CASSER_2019


@pytest.mark.parametrize(
    ("given", "field", "sentence"),
    [
        ({"encoder": "casser", "decoder": "fpn"}, "decoder", "has its own decoder"),
        ({"encoder": "casser", "decoder": "unetplusplus"}, "decoder", "has its own decoder"),
        ({"encoder": "casser", "decoder_width": "half"}, "decoder_width", "has its own decoder"),
        ({"encoder": "attention26", "initial": "imagenet"}, "initial", "Nobody publishes ImageNet weights"),
        ({"encoder": "casser", "initial": "imagenet"}, "initial", "Nobody publishes ImageNet weights"),
        ({"weights": "fine-tuned", "feature_cache": 1.0}, "feature_cache", "change at every step"),
        ({"framing": "crops", "feature_cache": 1.0}, "feature_cache", "never come twice"),
        ({"framing": "resize", "resolution": "half"}, "resolution", "brought to the size above already"),
        ({"framing": "crops", "image_size": 64, "resolution": "quarter"}, "resolution", "leaves 16 px of a crop"),
        ({"prediction_tile": 100}, "prediction_tile", "a multiple of 32"),
        ({"average": 1.0}, "average", "less than 1"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field_with_the_remedy(
    given: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec({"kind": "segment", **given})
    [refusal] = caught.value.refusals
    assert refusal.field == field
    assert sentence in refusal.sentence
    assert not refusal.sentence.startswith("Value error")


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50", "attention26", "attention50"])
@pytest.mark.parametrize("decoder", ["unet", "unetplusplus", "fpn"])
def test_every_other_pair_of_encoder_and_decoder_is_taken(encoder: str, decoder: str) -> None:
    assert load_spec({"kind": "segment", "encoder": encoder, "decoder": decoder}).kind == "segment"


def test_defaults_mean_what_was_done_before_there_were_these_fields() -> None:
    spec = SegmentSpec()
    assert (spec.decoder, spec.decoder_width, spec.initial, spec.augmentation) == ("unet", "full", "random", "tone")
    assert (spec.optimizer, spec.weight_decay, spec.warmup, spec.average) == ("adam", 0, 0, 0)
    assert (spec.validate_every, spec.early_stop, spec.feature_cache) == (1, 0, 0)
    assert (spec.prediction_tile, spec.prediction_flips, spec.threshold) == (0, False, "half")
    assert (spec.resolution, spec.judged) == ("full", "best")


def test_the_preset_paper_does_nothing_that_the_paper_does_not_name() -> None:
    """Section V-B: resized to 224, flips, rotation, blur; batch 4, 200 epochs, Adam from 0.0005, a plateau of 15."""
    spec = from_preset("segment", "paper")
    assert isinstance(spec, SegmentSpec)
    assert (spec.framing, spec.image_size, spec.augmentation, spec.validation) == ("resize", 224, "paper", "random")
    assert (spec.batch_size, spec.epochs, spec.optimizer, spec.learning_rate) == (4, 200, "adam", 5e-4)
    assert (spec.schedule, spec.patience, spec.weight_decay, spec.warmup, spec.average) == ("plateau", 15, 0, 0, 0)
    assert (spec.decoder, spec.decoder_width, spec.threshold, spec.early_stop) == ("unet", "full", "half", 0)
    assert (spec.prediction_flips, spec.feature_cache, spec.validation_share) == (False, 0, 0.25)
    assert spec.judged == "best"


def test_cassers_own_settings_are_a_specification() -> None:
    spec = from_preset("segment", "recommended", **{**CASSER_2019, "decoder_width": "full"})
    assert isinstance(spec, SegmentSpec)
    assert (spec.encoder, spec.image_size, spec.batch_size, spec.learning_rate) == ("casser", 512, 4, 5e-4)
