"""The specification of class activation maps. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from ml_core.specs.fields import DATASET, InputSlot, Presets, Refusal, Spec, field


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


PRESETS: Presets = {
    "recommended": {"layer": "decoder"},
    "paper": {},
    "quick": {"image_size": 64, "images": 4, "layer": "decoder"},
}
