"""The specification of a segmentation. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from ml_core.specs.fields import DATASET, InputSlot, Presets, field
from ml_core.specs.inactive_fields import inactive
from ml_core.specs.segment_data import REDUCTIONS, DataSpec
from ml_core.specs.segment_network import NetworkSpec

__all__ = ["CASSER_2019", "PRESETS", "REDUCTIONS", "SegmentSpec"]


class SegmentSpec(DataSpec, NetworkSpec):
    """U-Net segmentation on top of an encoder (paper, sections IV-B and V; Ronneberger et al. 2015).

    Its fields come in the order of the bases from the last: network, data, then training and prediction below. A field
    that came later has a default that means what was done before it: stored specifications stay what they are.
    """

    title: ClassVar[str] = "Segment"
    verb: ClassVar[str] = "Segmenting"
    inputs: ClassVar = (
        DATASET,
        InputSlot(
            "encoder",
            "Encoder",
            "encoder",
            required=False,
            help="A pretrained encoder. Without one, the encoder starts from random weights and is trained.",
        ),
    )
    makes: ClassVar = ("segmenter",)

    kind: Literal["segment"] = "segment"
    epochs: int = field(
        200,
        "Epochs",
        unit="epochs",
        unit_of_one="epoch",
        help="Each is one pass over the images.",
        ge=1,
        le=10_000,
        refusal="1 to 10,000 epochs.",
    )
    batch_size: int = field(4, "Batch", unit="images", unit_of_one="image", ge=1, le=512, refusal="1 to 512 images.")
    learning_rate: float = field(
        5e-4, "Learning rate", gt=0, le=1, refusal="Greater than 0, at most 1; the paper takes 0.0005."
    )
    optimizer: Literal["adam", "adamw"] = field(
        "adam",
        "Optimizer",
        advanced=True,
        choices={"adam": "Adam (paper)", "adamw": "AdamW"},
        refusal="Choose adam or adamw.",
    )
    weight_decay: float = field(
        0.0, "Weight decay", words={"0": "none"}, advanced=True, ge=0, le=1, refusal="0 to 1; 0.01 is usual with AdamW."
    )
    schedule: Literal["plateau", "cosine", "constant"] = field(
        "plateau",
        "Rate schedule",
        advanced=True,
        help="On a plateau: a tenth of the rate after some epochs (Patience) without a better validation loss.",
        choices={"plateau": "Plateau (paper)", "cosine": "Cosine to 0", "constant": "Constant"},
        refusal="Choose plateau, cosine or constant.",
    )
    patience: int = field(
        15,
        "Patience",
        unit="epochs",
        unit_of_one="epoch",
        advanced=True,
        idle=[inactive(schedule=("cosine", "constant"))],
        ge=1,
        le=1000,
        refusal="1 to 1,000 epochs.",
    )
    warmup: float = field(
        0.0,
        "Warm-up",
        unit="of the steps",
        words={"0": "none"},
        advanced=True,
        help="Over this share of all steps the rate rises evenly from 0.",
        ge=0,
        le=0.5,
        refusal="0 to 0.5 of the steps.",
    )
    average: float = field(
        0.0,
        "Weight averaging",
        words={"0": "off"},
        advanced=True,
        help="The share of the running mean of the weights that each step keeps; the mean is what is validated and "
        "kept. 0 takes the weights as they are.",
        ge=0,
        lt=1,
        refusal="0 (off), or less than 1; 0.99 to 0.999 are usual.",
    )
    judged: Literal["best", "last"] = field(
        "best",
        "Weights to keep",
        advanced=True,
        help="A rate that goes to 0 and averaged weights make those of the end as good, and no chance of a few "
        "validation images has chosen them.",
        choices={"best": "Of the best validation score", "last": "Of the end"},
        refusal="Choose best or last.",
    )
    validate_every: int = field(
        1,
        "Validate every",
        unit="epochs",
        unit_of_one="epoch",
        advanced=True,
        help="At full resolution a validation takes as long as many steps.",
        ge=1,
        le=10_000,
        refusal="1 to 10,000 epochs.",
    )
    early_stop: int = field(
        0,
        "Early stop",
        unit="epochs",
        unit_of_one="epoch",
        words={"0": "off"},
        advanced=True,
        help="Ends after so many epochs without a better validation score. 0 never does.",
        ge=0,
        le=10_000,
        refusal="0 (never) to 10,000 epochs.",
    )
    prediction_tile: int = field(
        0,
        "Tile of prediction",
        unit="px",
        words={"0": "as large as the crops"},
        group="Prediction",
        advanced=True,
        idle=[inactive(framing="resize")],
        help="The largest tile that is predicted at once. 0 takes the crops' size; larger tiles show the "
        "network more around each pixel, repeat less, and take more memory.",
        ge=0,
        le=4096,
        multiple_of=32,
        refusal="0 (as the crops), or a multiple of 32 to 4,096 px.",
    )
    prediction_flips: bool = field(
        False,
        "Predict turned and mirrored",
        group="Prediction",
        advanced=True,
        help="The mean over each image's eight turned and mirrored forms: a little better, eight times the time. "
        "Not in the validations of the curve.",
        refusal="Choose yes or no.",
    )
    threshold: Literal["half", "validation"] = field(
        "half",
        "Threshold",
        group="Prediction",
        advanced=True,
        help="With one class: above which probability a pixel is foreground; the best is that with the best foreground "
        "IoU.",
        choices={"half": "0.5", "validation": "Best on the validation images"},
        refusal="Choose half or validation.",
    )

    @field_validator("feature_cache")
    @classmethod
    def _features_stay_the_same(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("weights") == "fine-tuned":
            raise ValueError("A fine-tuned encoder's features change at every step: choose 0, or freeze the encoder.")
        if value and info.data.get("framing") == "crops":
            raise ValueError("Random crops never come twice: choose 0, or frame whole slices.")
        return value


CASSER_2019: Mapping[str, Any] = {
    "encoder": "casser",
    "weights": "fine-tuned",
    "framing": "crops",
    "image_size": 512,
    "batch_size": 4,
    "optimizer": "adam",
    "learning_rate": 5e-4,
    "schedule": "constant",
}
"""Casser et al.'s own settings: changes on top of a preset, for their network as a baseline."""


PRESETS: Presets = {
    "recommended": {
        "decoder_width": "half",
        "weights": "fine-tuned",
        "framing": "crops",
        "image_size": 256,
        "validation_share": 0.1,
        "augmentation": "elastic",
        "batch_size": 8,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.05,
        "average": 0.99,
        "judged": "last",
        "validate_every": 5,
        "prediction_tile": 1024,
        "threshold": "validation",
    },
    "paper": {"validation": "random", "augmentation": "paper", "precision": "float32"},
    "quick": {
        "encoder": "resnet18",
        "weights": "fine-tuned",
        "image_size": 64,
        "epochs": 30,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "points_every": 1,
        "checkpoint_seconds": 10,
    },
}
