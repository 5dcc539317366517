"""The specification of a segmentation. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from ml_core.specs.architectures import ENCODERS, EncoderName
from ml_core.specs.fields import DATASET, InputSlot, Presets, TrainingSpec, field


class SegmentSpec(TrainingSpec):
    """U-Net segmentation on top of an encoder (paper, sections IV-B and V; Ronneberger et al. 2015)."""

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
        help="Taken from the pretrained encoder where one is given.",
        refusal="Choose one of the encoders in the list.",
    )
    weights: Literal["frozen", "fine-tuned"] = field(
        "frozen",
        "Encoder weights",
        group="Network",
        help="frozen keeps weights and BatchNorm statistics as they are and trains the decoder alone.",
        choices={"frozen": "Frozen (paper)", "fine-tuned": "Fine-tuned"},
        refusal="Choose frozen or fine-tuned.",
    )
    mask_layer: str = field(
        "",
        "Mask layer",
        group="Data",
        help="Which masks to learn, where a dataset has several. Empty takes the only one.",
        max_length=100,
        refusal="At most 100 characters.",
    )
    framing: Literal["resize", "crops"] = field(
        "resize",
        "Framing",
        group="Data",
        help="resize brings the whole slice to the size below (the paper). crops cuts it out at full resolution and "
        "predicts in overlapping tiles.",
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
    validation: Literal["dataset", "random"] = field(
        "dataset",
        "Validation images",
        group="Data",
        help="dataset takes the dataset's own split, or contiguous blocks with a gap where it has none. random is "
        "what the paper did; in a stack, neighbours then stand on both sides and scores come out too high.",
        choices={"dataset": "By the dataset's split", "random": "At random, a quarter (paper)"},
        refusal="Choose dataset or random.",
    )
    epochs: int = field(200, "Epochs", unit="passes over the images", ge=1, le=10_000, refusal="1 to 10,000 epochs.")
    batch_size: int = field(4, "Batch", unit="images", ge=1, le=512, refusal="1 to 512 images.")
    learning_rate: float = field(
        5e-4, "Learning rate", gt=0, le=1, refusal="Greater than 0, at most 1; the paper takes 0.0005."
    )
    schedule: Literal["plateau", "cosine", "constant"] = field(
        "plateau",
        "Rate schedule",
        advanced=True,
        help="plateau: a tenth of the rate after `patience` epochs without a better validation loss.",
        choices={"plateau": "Plateau (paper)", "cosine": "Cosine to 0", "constant": "Constant"},
        refusal="Choose plateau, cosine or constant.",
    )
    patience: int = field(15, "Patience", unit="epochs", advanced=True, ge=1, le=1000, refusal="1 to 1,000 epochs.")


PRESETS: Presets = {
    "recommended": {
        "weights": "fine-tuned",
        "framing": "crops",
        "image_size": 256,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "schedule": "cosine",
    },
    "paper": {"validation": "random", "precision": "float32"},
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
