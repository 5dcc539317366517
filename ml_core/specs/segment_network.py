"""The part of a segmentation's specification about its network. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationInfo, field_validator

from ml_core.specs.architectures import ENCODERS, EncoderName
from ml_core.specs.fields import TrainingSpec, field
from ml_core.specs.inactive_fields import inactive

WITH_IMAGENET = ("resnet18", "resnet50")
"""The encoders whose ImageNet weights are published."""


class NetworkSpec(TrainingSpec):
    """The encoder, where it begins, and the decoder on it."""

    encoder: EncoderName = field(
        "resnet50",
        "Architecture",
        group="Network",
        choices=ENCODERS,
        idle=[inactive(given=["encoder"], taken=True)],
        help="A pretrained encoder brings its own. Casser's is a whole network, with its own decoder.",
        refusal="Choose one of the encoders in the list.",
    )
    decoder: Literal["unet", "unetplusplus", "fpn"] = field(
        "unet",
        "Decoder",
        group="Network",
        advanced=True,
        idle=[inactive(encoder="casser")],
        help="Joins the encoder's maps to a mask. U-Net++ takes about twice the time, FPN is the lightest.",
        choices={"unet": "U-Net (paper)", "unetplusplus": "U-Net++", "fpn": "FPN"},
        refusal="Choose unet, unetplusplus or fpn.",
    )
    decoder_width: Literal["full", "half"] = field(
        "full",
        "Decoder width",
        group="Network",
        advanced=True,
        idle=[inactive(encoder="casser")],
        help="How many channels the decoder has. Half of them take about two thirds of the time on a small encoder.",
        choices={"full": "Full (paper)", "half": "Half"},
        refusal="Choose full or half.",
    )
    initial: Literal["random", "imagenet"] = field(
        "random",
        "Without a pretrained encoder",
        group="Network",
        idle=[inactive(given=["encoder"])],
        help="What the encoder starts from. ImageNet's weights exist for ResNet-18 and ResNet-50.",
        choices={"random": "Random weights", "imagenet": "ImageNet weights"},
        refusal="Choose random or imagenet.",
    )
    weights: Literal["frozen", "fine-tuned"] = field(
        "frozen",
        "Encoder weights",
        group="Network",
        idle=[inactive(initial="random", absent=["encoder"])],
        help="Frozen weights and BatchNorm statistics stay as they are, and the decoder alone is trained.",
        choices={"frozen": "Frozen (paper)", "fine-tuned": "Fine-tuned"},
        refusal="Choose frozen or fine-tuned.",
    )

    @field_validator("decoder")
    @classmethod
    def _decoder_fits(cls, value: str, info: ValidationInfo) -> str:
        if value != "unet" and info.data.get("encoder") == "casser":
            raise ValueError("Casser's network has its own decoder: choose U-Net, or another encoder.")
        return value

    @field_validator("decoder_width")
    @classmethod
    def _width_fits(cls, value: str, info: ValidationInfo) -> str:
        if value != "full" and info.data.get("encoder") == "casser":
            raise ValueError("Casser's network has its own decoder: choose full, or another encoder.")
        return value

    @field_validator("initial")
    @classmethod
    def _weights_are_published(cls, value: str, info: ValidationInfo) -> str:
        encoder = info.data.get("encoder")
        if value == "imagenet" and encoder is not None and encoder not in WITH_IMAGENET:
            raise ValueError(
                f"Nobody publishes ImageNet weights for {ENCODERS[encoder]}: choose random, ResNet-18 or ResNet-50."
            )
        return value
