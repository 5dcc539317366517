"""The specification of a colorization. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from ml_core.specs.fields import DATASET, InputSlot, Presets, Refusal, Spec, field
from ml_core.specs.inactive_fields import inactive


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
            help="Needed by a colorizer that was trained here, and by that of Zhang et al. where the server has no "
            "internet.",
            idle=(inactive(method="structured"),),
        ),
    )
    makes: ClassVar = ("colour",)

    def lacking(self, given: Collection[str]) -> list[Refusal]:
        missing = super().lacking(given)
        if self.method == "trained" and "colorizer" not in given:
            sentence = "Choose the colorizer that was trained: the result of a job Train colorizer."
            missing.append(Refusal("colorizer", sentence))
        return missing

    kind: Literal["colorize"] = "colorize"
    method: Literal["structured", "eccv16", "trained"] = field(
        "structured",
        "Colorizer",
        group="Colour",
        help="Structured derives colour from local statistics. Zhang et al. is the paper's network and needs its "
        "published weights. One trained here comes from a job Train colorizer.",
        choices={
            "structured": "Structured (no weights needed)",
            "eccv16": "Zhang et al. 2016 (eccv16, the paper)",
            "trained": "Trained here on colour photographs",
        },
        refusal="Choose structured, eccv16 or trained.",
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
        8,
        "Batch",
        unit="images",
        unit_of_one="image",
        ge=1,
        le=512,
        group="Colour",
        advanced=True,
        refusal="1 to 512 images at once.",
    )


PRESETS: Presets = {
    "recommended": {"method": "structured"},
    "paper": {"method": "eccv16"},
    "quick": {"method": "structured", "image_size": 64},
}
