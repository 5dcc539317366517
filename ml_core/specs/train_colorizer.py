"""The specification of a colorizer's training. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from ml_core.specs.fields import DATASET, Presets, TrainingSpec


class TrainColorizerSpec(TrainingSpec):
    """Trains a colorizer on colour photographs with the loss of Zhang et al. 2016."""

    title: ClassVar[str] = "Train colorizer"
    verb: ClassVar[str] = "Learning colours"
    inputs: ClassVar = (DATASET,)
    makes: ClassVar = ("colorizer",)

    kind: Literal["train_colorizer"] = "train_colorizer"


PRESETS: Presets = {"recommended": {}, "paper": {}, "quick": {}}
