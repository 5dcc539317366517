"""The specification of a segmentation. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from ml_core.specs.architectures import ENCODERS, STRIDE, EncoderName
from ml_core.specs.fields import DATASET, InputSlot, Presets, TrainingSpec, field
from ml_core.specs.idle import OWN_VALIDATION, idle

REDUCTIONS: Mapping[str, int] = {"full": 1, "half": 2, "quarter": 4}
"""By resolution, how many pixels along each side become one before the network looks."""
WITH_IMAGENET = ("resnet18", "resnet50")
"""The encoders whose ImageNet weights are published."""


class SegmentSpec(TrainingSpec):
    """U-Net segmentation on top of an encoder (paper, sections IV-B and V; Ronneberger et al. 2015).

    A field that came later has a default that means what was done before it: stored specifications stay what they are.
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
    encoder: EncoderName = field(
        "resnet50",
        "Architecture",
        group="Network",
        choices=ENCODERS,
        idle=[idle(given=["encoder"], taken=True)],
        help="A pretrained encoder brings its own. Casser's is a whole network, with its own decoder.",
        refusal="Choose one of the encoders in the list.",
    )
    decoder: Literal["unet", "unetplusplus", "fpn"] = field(
        "unet",
        "Decoder",
        group="Network",
        advanced=True,
        idle=[idle(encoder="casser")],
        help="Joins the encoder's maps to a mask. U-Net++ takes about twice the time, FPN is the lightest.",
        choices={"unet": "U-Net (paper)", "unetplusplus": "U-Net++", "fpn": "FPN"},
        refusal="Choose unet, unetplusplus or fpn.",
    )
    decoder_width: Literal["full", "half"] = field(
        "full",
        "Decoder width",
        group="Network",
        advanced=True,
        idle=[idle(encoder="casser")],
        help="How many channels the decoder has. Half of them take about two thirds of the time on a small encoder.",
        choices={"full": "Full (paper)", "half": "Half"},
        refusal="Choose full or half.",
    )
    initial: Literal["random", "imagenet"] = field(
        "random",
        "Without a pretrained encoder",
        group="Network",
        idle=[idle(given=["encoder"])],
        help="What the encoder starts from. ImageNet's weights exist for ResNet-18 and ResNet-50.",
        choices={"random": "Random weights", "imagenet": "ImageNet weights"},
        refusal="Choose random or imagenet.",
    )
    weights: Literal["frozen", "fine-tuned"] = field(
        "frozen",
        "Encoder weights",
        group="Network",
        idle=[idle(initial="random", absent=["encoder"])],
        help="Frozen weights and BatchNorm statistics stay as they are, and the decoder alone is trained.",
        choices={"frozen": "Frozen (paper)", "fine-tuned": "Fine-tuned"},
        refusal="Choose frozen or fine-tuned.",
    )
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
        idle=[idle(framing="resize")],
        help="What the network sees of a crop. Half averages 2 x 2 pixels to one and brings the answer back to full "
        "resolution: four times the area in the same time, where what is marked is tens of pixels wide.",
        choices={"full": "Full", "half": "Half: 2 x 2 pixels to one", "quarter": "A quarter: 4 x 4 pixels to one"},
        refusal="Choose full, half or quarter.",
    )
    validation: Literal["dataset", "random"] = field(
        "dataset",
        "Validation images",
        group="Data",
        help="Where the dataset has no split, contiguous blocks are held out, with a gap. At random is what the paper "
        "did; in a stack, neighbours then stand on both sides and scores come out too high.",
        choices={"dataset": "By the dataset's split", "random": "At random (paper)"},
        refusal="Choose dataset or random.",
    )
    validation_share: float = field(
        0.25,
        "Share held out",
        unit="of the images",
        group="Data",
        advanced=True,
        idle=[idle(validation="dataset", given=[OWN_VALIDATION])],
        help="How much is kept from learning, to validate on, where the dataset names no validation images. The paper "
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
        idle=[idle(weights="fine-tuned"), idle(framing="crops"), idle(initial="random", absent=["encoder"])],
        help="So much of the device's memory keeps what the encoder found in "
        "each slice, turned by quarters, mirrored, plain or blurred (16 forms instead of any angle), so that each form "
        "is computed once. 0 computes all anew at every step.",
        ge=0,
        le=10_000,
        refusal="0 (off) to 10,000 GB.",
    )
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
        idle=[idle(schedule=("cosine", "constant"))],
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
        idle=[idle(framing="resize")],
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
