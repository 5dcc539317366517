"""The specification of a colorizer's training. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from ml_core.specs.fields import InputSlot, Presets, TrainingSpec, field


class TrainColorizerSpec(TrainingSpec):
    """Trains a colorizer on colour photographs with the loss of Zhang et al. 2016.

    The defaults are those of its publication and of the authors' training files (github.com/richzhang/colorization,
    train/solver.prototxt and models/colorization_train_val_v2.prototxt); they trained on ImageNet.
    """

    title: ClassVar[str] = "Train colorizer"
    verb: ClassVar[str] = "Learning colours"
    inputs: ClassVar = (
        InputSlot(
            "dataset",
            "Colour photographs",
            "revision",
            help="A dataset of photographs, not of micrographs.",
            photographs=True,
        ),
    )
    makes: ClassVar = ("colorizer",)

    kind: Literal["train_colorizer"] = "train_colorizer"
    network: Literal["full", "small"] = field(
        "full",
        "Network",
        group="Network",
        help="The small one, with its shortcuts, learns from hundreds of photographs in minutes.",
        choices={
            "full": "As published, 32 million weights",
            "small": "A quarter of the width with shortcuts, 2 million weights",
        },
        refusal="Choose full or small.",
    )
    image_size: int = field(
        256,
        "Size",
        unit="px",
        group="Data",
        help="Each photograph is brought to this square size.",
        ge=32,
        le=1024,
        multiple_of=8,
        refusal="A multiple of 8 from 32 to 1,024 px.",
    )
    crop_size: int = field(
        176,
        "Crop",
        unit="px",
        group="Data",
        help="The network learns from random squares of this size, mirrored or not.",
        ge=32,
        le=1024,
        multiple_of=8,
        refusal="A multiple of 8 from 32 to 1,024 px, at most the size.",
    )
    epochs: int = field(
        16,
        "Epochs",
        unit="epochs",
        unit_of_one="epoch",
        help="Each is one pass over the photographs. The authors' 500,000 steps are 16 passes over the 1.3 million of "
        "ImageNet; a few hundred photographs want 30 to 60.",
        ge=1,
        le=10_000,
        refusal="1 to 10,000 epochs.",
    )
    batch_size: int = field(
        40,
        "Batch",
        unit="photographs",
        unit_of_one="photograph",
        ge=1,
        le=1024,
        refusal="1 to 1,024 photographs.",
    )
    learning_rate: float = field(
        3e-5, "Learning rate", gt=0, le=1, refusal="Greater than 0, at most 1; the authors took 0.00003."
    )
    schedule: Literal["drops", "cosine", "constant"] = field(
        "drops",
        "Rate schedule",
        advanced=True,
        help="The two drops: a tenth of the rate after 45 % of the steps, a hundredth after 90 %.",
        choices={"drops": "Two drops (the authors)", "cosine": "Cosine to 0", "constant": "Constant"},
        refusal="Choose drops, cosine or constant.",
    )
    weight_decay: float = field(
        1e-3, "Weight decay", words={"0": "none"}, advanced=True, ge=0, le=1, refusal="0 to 1; the authors took 0.001."
    )
    balance: float = field(
        0.5,
        "Balance of colours",
        group="Colour",
        advanced=True,
        help="How far rare colours are raised in the loss: 0 fully, 1 not at all (lambda of Zhang et al.).",
        ge=0,
        le=1,
        refusal="0 to 1; the authors took 0.5.",
    )
    temperature: float = field(
        0.38,
        "Temperature",
        group="Colour",
        advanced=True,
        help="Which colour is shown of those that the network holds possible: 1 their mean, near 0 the likeliest.",
        gt=0,
        le=1,
        refusal="Greater than 0, at most 1; the authors took 0.38.",
    )

    @field_validator("crop_size")
    @classmethod
    def _fits(cls, crop: int, info: ValidationInfo) -> int:
        size = info.data.get("image_size")
        if size is not None and crop > size:
            raise ValueError(f"The crop of {crop} px is larger than the photographs of {size} px. Take at most {size}.")
        return crop


PRESETS: Presets = {
    "recommended": {
        "network": "small",
        "image_size": 160,
        "crop_size": 128,
        "epochs": 60,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "weight_decay": 0.0,
    },
    "paper": {"precision": "float32"},
    "quick": {
        "network": "small",
        "image_size": 64,
        "crop_size": 48,
        "epochs": 20,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "points_every": 5,
        "checkpoint_seconds": 10,
    },
}
