"""The specification of a linear classification. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from ml_core.specs.fields import DATASET, InputSlot, Presets, TrainingSpec


class ClassifySpec(TrainingSpec):
    """Logistic regression on an encoder's frozen features (paper, section IV-C)."""

    title: ClassVar[str] = "Classify"
    verb: ClassVar[str] = "Classifying"
    inputs: ClassVar = (
        DATASET,
        InputSlot("encoder", "Encoder", "encoder", required=False),
        InputSlot("segmenter", "Encoder of a segmentation model", "segmenter", required=False),
    )
    makes: ClassVar = ("classifier",)

    kind: Literal["classify"] = "classify"


PRESETS: Presets = {"recommended": {}, "paper": {}, "quick": {}}
