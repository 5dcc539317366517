"""The specification of a linear classification. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from ml_core.specs.architectures import ENCODERS, EncoderName
from ml_core.specs.fields import DATASET, InputSlot, Presets, Refusal, TrainingSpec, field
from ml_core.specs.inactive_fields import inactive


class ClassifySpec(TrainingSpec):
    """Logistic regression on an encoder's frozen features (paper, section IV-C)."""

    title: ClassVar[str] = "Classify"
    verb: ClassVar[str] = "Classifying"
    inputs: ClassVar = (
        DATASET,
        InputSlot(
            "encoder",
            "Encoder",
            "encoder",
            required=False,
            help="A pretrained encoder. Without one, the initial weights below are evaluated.",
        ),
        InputSlot(
            "segmenter",
            "Encoder of a segmentation model",
            "segmenter",
            required=False,
            help="Its encoder is evaluated instead: the paper's Encoder (Paper) is that of Casser's U-Net.",
        ),
    )
    one_of: ClassVar = ("encoder", "segmenter")
    makes: ClassVar = ("classifier",)

    def lacking(self, given: Collection[str]) -> list[Refusal]:
        missing = super().lacking(given)
        if set(self.one_of) <= set(given):
            sentence = "Choose an encoder or a segmentation model, not both: one encoder is evaluated."
            missing.append(Refusal("segmenter", sentence))
        return missing

    kind: Literal["classify"] = "classify"
    architecture: EncoderName = field(
        "resnet50",
        "Architecture",
        group="Network",
        choices=ENCODERS,
        help="A pretrained encoder or a segmentation model brings its own.",
        idle=[inactive(given=["encoder", "segmenter"], taken=True)],
        refusal="Choose one of the encoders in the list.",
    )
    initial: Literal["random", "imagenet"] = field(
        "random",
        "Initial weights",
        group="Network",
        idle=[inactive(given=["encoder", "segmenter"])],
        help="What is evaluated where no encoder is given. ImageNet's weights exist for ResNet-18 and ResNet-50.",
        choices={"random": "Random", "imagenet": "ImageNet (torchvision)"},
        refusal="Choose random or imagenet.",
    )
    split: Literal["dataset", "random"] = field(
        "dataset",
        "Split",
        group="Data",
        help="Where the dataset has no split: 70 % of each class to learn from, 10 % to validate on, 20 % to test on, "
        "every stack in one part. At random is what the paper did; in a stack, neighbours are then in both parts and "
        "accuracy comes out too high.",
        choices={"dataset": "By the dataset's split", "random": "At random, 70/10/20 (paper)"},
        refusal="Choose dataset or random.",
    )
    image_size: int = field(
        224,
        "Size",
        unit="px",
        group="Data",
        help="The encoder sees whole images at this size.",
        ge=32,
        le=1024,
        multiple_of=32,
        refusal="A multiple of 32 from 32 to 1,024 px: the encoder halves the image five times.",
    )
    standardise: bool = field(
        False,
        "Standardise features",
        help="Brings every feature to mean 0 and deviation 1 over the training images. The paper does not.",
        refusal="Choose yes or no.",
    )
    optimizer: Literal["adam", "lbfgs"] = field(
        "adam",
        "Optimizer",
        help="Adam trains in batches at one rate. L-BFGS trains on all images at once until it converges, "
        "for several weight decays, and keeps the one that suits the validation images best.",
        choices={"adam": "Adam (paper)", "lbfgs": "L-BFGS to convergence"},
        refusal="Choose adam or lbfgs.",
    )
    epochs: int = field(
        100,
        "Epochs",
        unit="epochs",
        unit_of_one="epoch",
        help="Each is one pass over the images. With L-BFGS, each stands for up to 10 iterations, and so many are made "
        "for each weight decay.",
        ge=1,
        le=10_000,
        refusal="1 to 10,000 epochs.",
    )
    regression_batch: int = field(
        256,
        "Batch",
        unit="feature vectors",
        unit_of_one="feature vector",
        advanced=True,
        idle=[inactive(optimizer="lbfgs")],
        help="The paper does not say its own.",
        ge=1,
        le=65_536,
        refusal="1 to 65,536 feature vectors.",
    )
    learning_rate: float = field(
        3e-4,
        "Learning rate",
        advanced=True,
        idle=[inactive(optimizer="lbfgs")],
        gt=0,
        le=1,
        refusal="Greater than 0, at most 1; the paper takes 0.0003.",
    )


PRESETS: Presets = {
    "recommended": {"standardise": True, "optimizer": "lbfgs", "epochs": 20, "points_every": 1},
    "paper": {"split": "random", "precision": "float32"},
    "quick": {
        "architecture": "resnet18",
        "image_size": 64,
        "standardise": True,
        "optimizer": "lbfgs",
        "epochs": 10,
        "points_every": 1,
        "checkpoint_seconds": 10,
    },
}
