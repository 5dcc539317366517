"""The specification of a pretraining. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from ml_core.specs.architectures import ENCODERS, EncoderName
from ml_core.specs.fields import DATASET, InputSlot, Presets, Refusal, TrainingSpec, field
from ml_core.specs.inactive_fields import inactive


class PretrainSpec(TrainingSpec):
    """BYOL on unlabelled micrographs (paper, section IV; Grill et al. 2020)."""

    title: ClassVar[str] = "Pretrain"
    verb: ClassVar[str] = "Pretraining"
    inputs: ClassVar = (
        DATASET,
        InputSlot(
            "colour",
            "Colour planes",
            "colour",
            required=False,
            help="Made by a colorize job on the same dataset. Both views of grey against colour need them.",
            idle=(inactive(views="byol"),),
        ),
        InputSlot("start", "Start from encoder", "encoder", required=False),
    )
    makes: ClassVar = ("encoder",)

    def lacking(self, given: Collection[str]) -> list[Refusal]:
        missing = super().lacking(given)
        if self.views != "byol" and "colour" not in given:
            sentence = "These views compare grey with colour. Choose the colour planes that a colorize job made."
            missing.append(Refusal("colour", sentence))
        return missing

    kind: Literal["pretrain"] = "pretrain"
    encoder: EncoderName = field(
        "resnet50",
        "Encoder",
        group="Network",
        choices=ENCODERS,
        refusal="Choose one of the encoders in the list.",
    )
    views: Literal["colour", "colour+crop", "byol"] = field(
        "colour",
        "Views",
        group="Views",
        help="The views to be represented alike. Grey and colour show the same geometry; cropped, each has its "
        "own random crop, brightness, contrast and blur. The two augmented crops of BYOL have flip, jitter, blur and "
        "solarization, and no colour.",
        choices={
            "colour": "Grey against colour (paper)",
            "colour+crop": "Grey against colour, each cropped",
            "byol": "Two augmented crops (BYOL)",
        },
        refusal="Choose colour, colour+crop or byol.",
    )
    colour_space: Literal["lab", "rgb"] = field(
        "lab",
        "Colour space",
        group="Views",
        advanced=True,
        idle=[inactive(views="byol")],
        help="How the coloured view reaches the network; the paper feeds Lab.",
        choices={"lab": "Lab (paper)", "rgb": "RGB"},
        refusal="Choose lab or rgb.",
    )
    image_size: int = field(
        128,
        "Size",
        unit="px",
        group="Views",
        ge=32,
        le=512,
        multiple_of=32,
        refusal="A multiple of 32 from 32 to 512 px: the encoder halves the image five times.",
    )
    epochs: int = field(
        100,
        "Epochs",
        unit="epochs",
        unit_of_one="epoch",
        help="Each is one pass over the images.",
        ge=1,
        le=10_000,
        refusal="1 to 10,000 epochs.",
    )
    batch_size: int = field(
        20,
        "Batch",
        unit="pairs",
        ge=2,
        le=4096,
        refusal="2 to 4,096 pairs: BatchNorm needs more than one.",
    )
    learning_rate: float = field(
        3e-4, "Learning rate", gt=0, le=1, refusal="Greater than 0, at most 1; the paper takes 0.0003."
    )
    momentum: float = field(
        0.99,
        "Target momentum",
        group="Network",
        advanced=True,
        help="How much of the target network stays at each step.",
        ge=0,
        le=1,
        refusal="0 to 1; the paper's library takes 0.99.",
    )
    momentum_schedule: Literal["constant", "cosine"] = field(
        "constant",
        "Momentum schedule",
        group="Network",
        advanced=True,
        help="The cosine ends with the last epoch. A run that is extended takes up the longer cosine where it stands, "
        "and so is not the run that would have been that long from the start; with a constant momentum it is.",
        choices={"constant": "Constant (paper)", "cosine": "Cosine to 1"},
        refusal="Choose constant or cosine.",
    )
    batch_norm: Literal["cat", "per_view"] = field(
        "cat",
        "BatchNorm batch",
        group="Network",
        advanced=True,
        help="With both views together, their difference in tone cannot be normalised away.",
        choices={"cat": "Both views together (paper)", "per_view": "Each view separately"},
        refusal="Choose cat or per_view.",
    )
    hidden_size: int = field(
        4096,
        "Hidden units",
        group="Network",
        advanced=True,
        ge=16,
        le=16_384,
        refusal="16 to 16,384; BYOL takes 4,096.",
    )
    projection_size: int = field(
        256, "Projection", group="Network", advanced=True, ge=8, le=4096, refusal="8 to 4,096; BYOL takes 256."
    )
    knn_every: int = field(
        5,
        "kNN accuracy every",
        unit="epochs",
        unit_of_one="epoch",
        words={"0": "never"},
        group="Run",
        advanced=True,
        help="How many labelled images have neighbours of their own class, in the encoder's features; 0 never measures "
        "it. Nothing is learned from the labels. Without labels nothing is measured.",
        ge=0,
        le=10_000,
        refusal="0 (never) to every 10,000 epochs.",
    )
    pictures_every: int = field(
        200,
        "Show pairs every",
        unit="steps",
        unit_of_one="step",
        group="Run",
        advanced=True,
        ge=1,
        le=1_000_000,
        refusal="Every 1 to 1,000,000 steps.",
    )


PRESETS: Presets = {
    "recommended": {"views": "colour+crop", "epochs": 200, "batch_size": 128, "momentum_schedule": "cosine"},
    "paper": {"precision": "float32"},
    "quick": {
        "encoder": "resnet18",
        "image_size": 64,
        "epochs": 30,
        "batch_size": 16,
        "hidden_size": 512,
        "projection_size": 128,
        "points_every": 2,
        "pictures_every": 50,
        "checkpoint_seconds": 10,
    },
}
