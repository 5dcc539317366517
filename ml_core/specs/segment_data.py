"""The part of a segmentation's specification about its images. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import ValidationInfo, field_validator

from ml_core.specs.architectures import STRIDE
from ml_core.specs.fields import TrainingSpec, field
from ml_core.specs.inactive_fields import OWN_VALIDATION, inactive

REDUCTIONS: Mapping[str, int] = {"full": 1, "half": 2, "quarter": 4}
"""By resolution, how many pixels along each side are reduced to one before the network."""


class DataSpec(TrainingSpec):
    """Which masks, framed and augmented how, and which images are held out."""

    mask_layer: str = field(
        "",
        "Mask layer",
        words={"": "the only one"},
        source="mask layers",
        group="Data",
        help="Which masks to learn, where a dataset has several.",
        max_length=100,
        refusal="At most 100 characters.",
    )
    framing: Literal["resize", "crops"] = field(
        "resize",
        "Framing",
        group="Data",
        help="A whole slice is brought to the size below. Crops are cut out at full resolution, and prediction goes by "
        "overlapping tiles.",
        choices={"resize": "Whole slice, resized (paper)", "crops": "Crops at full resolution"},
        refusal="Choose resize or crops.",
    )
    image_size: int = field(
        224,
        "Size",
        unit="px",
        group="Data",
        ge=32,
        le=1024,
        multiple_of=32,
        refusal="A multiple of 32 from 32 to 1,024 px: the encoder halves the image five times.",
    )
    resolution: Literal["full", "half", "quarter"] = field(
        "full",
        "Resolution",
        group="Data",
        advanced=True,
        idle=[inactive(framing="resize")],
        help="What the network sees of a crop. Half averages 2 x 2 pixels to one and brings the mask back to full "
        "resolution: four times the area in the same time, where what is marked is tens of pixels wide.",
        choices={"full": "Full", "half": "Half: 2 x 2 pixels to one", "quarter": "A quarter: 4 x 4 pixels to one"},
        refusal="Choose full, half or quarter.",
    )
    validation: Literal["dataset", "random"] = field(
        "dataset",
        "Validation images",
        group="Data",
        help="Where the dataset has no split, contiguous blocks are held out, with a gap. At random is what the paper "
        "did; in a stack, neighbours are then in both parts and scores come out too high.",
        choices={"dataset": "By the dataset's split", "random": "At random (paper)"},
        refusal="Choose dataset or random.",
    )
    validation_share: float = field(
        0.25,
        "Share held out",
        unit="of the images",
        group="Data",
        advanced=True,
        idle=[inactive(validation="dataset", given=[OWN_VALIDATION])],
        help="How much is held out for validation, where the dataset names no validation images. The paper "
        "takes a quarter. Of a lone stack, the gap beside the block that is held out is lost as well.",
        ge=0.02,
        le=0.5,
        refusal="0.02 to 0.5 of the images.",
    )
    augmentation: Literal["paper", "tone", "dihedral", "elastic"] = field(
        "tone",
        "Augmentation",
        group="Data",
        advanced=True,
        help="Tone is brightness and contrast. Quarter turns interpolate nothing: for crops. Bending is for few labels "
        "and many epochs.",
        choices={
            "paper": "Flips, rotation, blur (paper)",
            "tone": "Flips, rotation, blur, tone",
            "dihedral": "Flips, quarter turns, blur, tone, noise",
            "elastic": "Flips, any turn, scale, bending, blur, tone, noise",
        },
        refusal="Choose paper, tone, dihedral or elastic.",
    )
    feature_cache: float = field(
        0.0,
        "Features kept",
        unit="GB",
        words={"0": "off"},
        group="Data",
        advanced=True,
        idle=[
            inactive(weights="fine-tuned"),
            inactive(framing="crops"),
            inactive(initial="random", absent=["encoder"]),
        ],
        help="So much of the device's memory keeps what the encoder found in "
        "each slice, turned by quarters, mirrored, plain or blurred (16 forms instead of any angle), so that each form "
        "is computed once. 0 computes all again at every step.",
        ge=0,
        le=10_000,
        refusal="0 (off) to 10,000 GB.",
    )

    @field_validator("resolution")
    @classmethod
    def _resolution_fits(cls, value: str, info: ValidationInfo) -> str:
        if value == "full":
            return value
        if info.data.get("framing") == "resize":
            raise ValueError("Whole slices are brought to the size above already: choose full, or frame crops.")
        left = info.data.get("image_size", 0) // REDUCTIONS[value]
        if "image_size" in info.data and left < STRIDE:
            raise ValueError(f"That leaves {left} px of a crop, and {STRIDE} px are the least: choose larger crops.")
        return value
