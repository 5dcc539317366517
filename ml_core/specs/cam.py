"""The specification of class activation maps. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

from ml_core.specs.fields import DATASET, InputSlot, Presets, Refusal, Spec, field
from ml_core.specs.inactive_fields import inactive

RANDOM_CORRELATION_LIMIT = 0.7
"""From this correlation on, maps of trained and of random weights are so similar that the map shows little of the
training."""

METHOD_NAMES = {
    "gradcam": "Grad-CAM",
    "gradcamplusplus": "Grad-CAM++",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
    "scorecam": "Score-CAM",
}


def with_limit(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A map's facts with the limit that its correlation is compared with, where they were stored without it."""
    return {"random_correlation_limit": RANDOM_CORRELATION_LIMIT, **facts}


class CamSpec(Spec):
    """Class activation maps: what the network looks at (paper, section VI)."""

    title: ClassVar[str] = "CAM"
    verb: ClassVar[str] = "Mapping"
    inputs: ClassVar = (
        DATASET,
        InputSlot("segmenter", "Segmentation model", "segmenter", required=False),
        InputSlot("classifier", "Classifier", "classifier", required=False),
        InputSlot("encoder", "Encoder", "encoder", required=False),
    )
    one_of: ClassVar = ("segmenter", "classifier", "encoder")
    makes: ClassVar = ()

    def lacking(self, given: Collection[str]) -> list[Refusal]:
        missing = super().lacking(given)
        networks = [name for name in self.one_of if name in given]
        if len(networks) > 1:
            sentence = "Choose one network to map: a segmentation model, a classifier or an encoder."
            missing.append(Refusal(networks[-1], sentence))
        elif self.method != "eigencam" and networks in ([], ["encoder"]):
            sentence = (
                f"{METHOD_NAMES[self.method]} needs a segmentation model or a classifier. Choose one, or take "
                "EigenCAM, which maps a bare encoder."
            )
            missing.append(Refusal("segmenter", sentence))
        elif not networks:
            missing.append(Refusal("encoder", "Choose an encoder, a segmentation model or a classifier to map."))
        return missing

    kind: Literal["cam"] = "cam"
    method: Literal["gradcam", "gradcamplusplus", "layercam", "eigencam", "scorecam"] = field(
        "gradcam",
        "Method",
        group="Map",
        help="All but EigenCAM explain a class or the foreground, and need a segmentation model or a classifier. "
        "Grad-CAM asks what raises its score. Grad-CAM++ does more justice to several objects in one image. LayerCAM "
        "weighs every place by itself and is finer in early layers. EigenCAM shows the strongest common pattern of a "
        "layer's features and asks for no class. Score-CAM uses no gradients but two forward passes for each channel "
        "of the layer: hundreds to thousands for an image, which takes minutes on a CPU.",
        choices=METHOD_NAMES,
        refusal="Choose gradcam, gradcamplusplus, layercam, eigencam or scorecam.",
    )
    layer: Literal["decoder", "layer2", "layer3", "layer4"] = field(
        "layer4",
        "Layer",
        group="Map",
        help="The stages are those of the encoder. The decoder shows most of a segmentation model; classifiers and "
        "bare encoders have none.",
        choices={
            "layer4": "Stage 4 (coarse)",
            "layer3": "Stage 3",
            "layer2": "Stage 2 (fine)",
            "decoder": "Decoder (segmentation models)",
        },
        refusal="Choose layer2, layer3, layer4 or decoder.",
    )
    target: str = field(
        "",
        "Class",
        words={"": "what is predicted"},
        source="classes",
        idle=[inactive(given=["encoder"])],
        group="Map",
        help="Which class the map explains: a label of the classifier, or a value in the segmentation model's masks. "
        "Else what is predicted, of several classes in an image the largest.",
        max_length=200,
        refusal="At most 200 characters.",
    )
    image_size: int = field(
        224, "Size", unit="px", group="Map", ge=32, le=1024, multiple_of=32, refusal="A multiple of 32, 32 to 1,024 px."
    )
    images: int = field(
        8,
        "Images",
        unit="images",
        unit_of_one="image",
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
