"""What a job is asked to do: one frozen pydantic model per kind of job, and their presets.

The form, the API, the command line and the trainer validate with these same models. Every field carries what a
form needs to draw it (label, unit, help, group, whether it is advanced) and the sentence of its refusal. Nothing in
this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Literal

from pydantic import ValidationError

from ml_core import fields
from ml_core.fields import CURRENT_VERSION, FieldInfo, InputSlot, Refusal, Spec, SpecError, TrainingSpec, field
from ml_core.presets import PRESETS

ENCODERS = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}

DATASET = InputSlot("dataset", "Dataset", "revision")


class ColorizeSpec(Spec):
    """Gives every micrograph a second view: its ab colour planes (paper, section IV-A; Zhang et al. 2016)."""

    title: ClassVar[str] = "Colorize"
    verb: ClassVar[str] = "Colorizing"
    inputs: ClassVar = (
        DATASET,
        InputSlot(
            "colorizer",
            "Colorizer weights",
            "colorizer",
            required=False,
            help="Needed by eccv16 where the server has no internet.",
        ),
    )
    makes: ClassVar = ("colour",)

    kind: Literal["colorize"] = "colorize"
    method: Literal["structured", "eccv16"] = field(
        "structured",
        "Colorizer",
        group="Colour",
        help="eccv16 is the paper's network and needs its published weights. structured derives colour from local "
        "statistics and needs nothing.",
        choices={"structured": "Structured (no weights needed)", "eccv16": "Zhang et al. 2016 (eccv16)"},
        refusal="Choose structured or eccv16.",
    )
    image_size: int = field(
        256,
        "Size",
        unit="px",
        group="Colour",
        help="Each micrograph is brought to this square size before it is colorized.",
        ge=32,
        le=1024,
        multiple_of=8,
        refusal="A multiple of 8 from 32 to 1,024 px.",
    )
    batch_size: int = field(
        8, "Batch", unit="images", ge=1, le=512, group="Colour", advanced=True, refusal="1 to 512 images at once."
    )


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
            help="Made by a colorize job on the same dataset. Needed by the views colour and colour+crop.",
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
    encoder: Literal["resnet18", "resnet50"] = field(
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
        help="colour: grey against colorized, same geometry (the paper). colour+crop: the same, each from its own "
        "random crop. byol: two random crops with flip, jitter, blur and solarization.",
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
    epochs: int = field(100, "Epochs", unit="passes over the images", ge=1, le=10_000, refusal="1 to 10,000 epochs.")
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
        choices={"constant": "Constant (paper)", "cosine": "Cosine to 1"},
        refusal="Choose constant or cosine.",
    )
    batch_norm: Literal["cat", "per_view"] = field(
        "cat",
        "BatchNorm batch",
        group="Network",
        advanced=True,
        help="cat: both views in one batch, so their difference in tone cannot be normalised away.",
        choices={"cat": "Both views together (paper)", "per_view": "Each view by itself"},
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
    pictures_every: int = field(
        200,
        "Show pairs every",
        unit="steps",
        group="Run",
        advanced=True,
        ge=1,
        le=1_000_000,
        refusal="Every 1 to 1,000,000 steps.",
    )


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
    encoder: Literal["resnet18", "resnet50"] = field(
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


class CamSpec(Spec):
    """Class activation maps: what the network looks at (paper, section VI)."""

    title: ClassVar[str] = "CAM"
    verb: ClassVar[str] = "Mapping"
    inputs: ClassVar = (
        DATASET,
        InputSlot("segmenter", "Segmentation model", "segmenter", required=False),
        InputSlot("encoder", "Encoder", "encoder", required=False),
    )
    makes: ClassVar = ()

    def lacking(self, given: Collection[str]) -> list[Refusal]:
        missing = super().lacking(given)
        if self.method == "gradcam" and "segmenter" not in given:
            sentence = "Grad-CAM needs a segmentation model. Choose one, or take EigenCAM, which maps a bare encoder."
            missing.append(Refusal("segmenter", sentence))
        elif not {"segmenter", "encoder"} & set(given):
            missing.append(Refusal("encoder", "Choose an encoder or a segmentation model to map."))
        return missing

    kind: Literal["cam"] = "cam"
    method: Literal["gradcam", "eigencam"] = field(
        "gradcam",
        "Method",
        group="Map",
        help="Grad-CAM asks what raises the foreground's score and needs a segmentation model. EigenCAM shows the "
        "strongest common pattern of an encoder's features.",
        choices={"gradcam": "Grad-CAM", "eigencam": "EigenCAM"},
        refusal="Choose gradcam or eigencam.",
    )
    layer: Literal["decoder", "layer2", "layer3", "layer4"] = field(
        "layer4",
        "Layer",
        group="Map",
        help="The stages are those of the encoder. The decoder shows most of a segmentation model, and a bare encoder "
        "has none.",
        choices={
            "layer4": "Stage 4 (coarse)",
            "layer3": "Stage 3",
            "layer2": "Stage 2 (fine)",
            "decoder": "Decoder (segmentation models)",
        },
        refusal="Choose layer2, layer3, layer4 or decoder.",
    )
    image_size: int = field(
        224, "Size", unit="px", group="Map", ge=32, le=1024, multiple_of=32, refusal="A multiple of 32, 32 to 1,024 px."
    )
    images: int = field(
        8,
        "Images",
        group="Map",
        help="The first so many of the test or validation images.",
        ge=1,
        le=500,
        refusal="1 to 500 images.",
    )


class IntakeSpec(Spec):
    """Reads one upload into items: decodes, checks, hashes, makes thumbnails. Housekeeping, not an experiment."""

    title: ClassVar[str] = "Intake"
    verb: ClassVar[str] = "Reading"
    inputs: ClassVar = (InputSlot("upload", "Upload", "upload"),)
    needs_torch: ClassVar[bool] = False

    kind: Literal["intake"] = "intake"
    filename: str
    thumbnail_size: int = 160


SPECS: dict[str, type[Spec]] = {
    "colorize": ColorizeSpec,
    "pretrain": PretrainSpec,
    "segment": SegmentSpec,
    "cam": CamSpec,
    "intake": IntakeSpec,
}

# One function per step: takes the raw mapping of version n of a kind, returns that of version n + 1.
_UPGRADES: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}


def presets_of(kind: str) -> tuple[str, ...]:
    """The names of the presets of `kind`, the one to offer first in front."""
    return tuple(PRESETS.get(kind, {}))


def from_preset(kind: str, preset: str, /, **changes: Any) -> Spec:
    """The specification of `kind` that `preset` stands for, with `changes` on top. Raises SpecError."""
    if preset not in PRESETS.get(kind, {}):
        names = ", ".join(presets_of(kind)) or "none"
        raise SpecError([Refusal("preset", f"There is no preset {preset} for {kind}; there are: {names}.")])
    return load_spec({"kind": kind, "version": CURRENT_VERSION, "preset": preset, **PRESETS[kind][preset], **changes})


def differences(spec: Spec) -> dict[str, tuple[Any, Any]]:
    """The fields in which `spec` differs from its preset: name -> (preset's value, own value)."""
    if spec.preset not in PRESETS.get(spec.kind, {}):
        return {}
    base = from_preset(spec.kind, spec.preset)
    names = type(spec).model_fields
    return {n: (getattr(base, n), getattr(spec, n)) for n in names if getattr(base, n) != getattr(spec, n)}


def load_spec(raw: Mapping[str, Any]) -> Spec:
    """Validates `raw` (parsed JSON), bringing an older version up to date first. Raises SpecError."""
    data = dict(raw)
    kind = data.get("kind")
    if kind not in SPECS:
        raise SpecError([Refusal("kind", f"There is no kind of job called {kind!r}; there are: {', '.join(SPECS)}.")])
    version = data.get("version", CURRENT_VERSION)
    if not isinstance(version, int) or not 1 <= version <= CURRENT_VERSION:
        raise SpecError(
            [Refusal("version", f"Version {version!r} is unknown here; this server reads 1 to {CURRENT_VERSION}.")]
        )
    while version < CURRENT_VERSION:
        data = _UPGRADES[kind, version](data)
        version += 1
        data["version"] = version
    try:
        return SPECS[kind].model_validate(data)
    except ValidationError as error:
        raise SpecError(fields.refusals_of(SPECS[kind], error)) from error


def fields_of(kind: str) -> list[FieldInfo]:
    """The fields of `kind` in the order of the form, without those that every specification has by itself."""
    return fields.describe(SPECS[kind])
