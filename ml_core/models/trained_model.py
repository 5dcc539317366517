"""Loads a trained model of any kind from its file, as one module that takes grey images in 0..1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ml_core.imaging.tensor_lab import lightness_of_grey
from ml_core.models import encoders
from ml_core.models.colorizers.trained import ARCHITECTURE, TrainedColorizer, trained_from
from ml_core.models.linear_classifier import Classifier, classifier_from
from ml_core.models.unet import Segmenter, segmenter_from
from ml_core.runtime import weights

Kind = Literal["encoder", "segmenter", "classifier", "colorizer"]
ANSWERS: Mapping[Kind, str] = {
    "encoder": "features",
    "segmenter": "logits",
    "classifier": "logits",
    "colorizer": "the colours a and b of CIE Lab",
}


class EncoderModel(nn.Module):
    """Grey images (B, 1, H, W) in 0..1, H and W multiples of 32, to feature vectors (B, D)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: nn.Module, *, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1), persistent=False)

    def forward(self, grey: Tensor) -> Tensor:
        x = (grey.expand(-1, self.mean.shape[1], -1, -1) - self.mean) / self.deviation
        return encoders.features(self.encoder, x)


class ColorizerModel(nn.Module):
    """Grey images (B, 1, H, W) in 0..1, H and W multiples of 8, to the colours a and b (B, 2, H, W) of CIE Lab."""

    def __init__(self, colorizer: TrainedColorizer) -> None:
        super().__init__()
        self.colorizer = colorizer

    def forward(self, grey: Tensor) -> Tensor:
        ab: Tensor = self.colorizer(lightness_of_grey(grey))
        return ab


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode; `facts` are those in its file."""

    kind: Kind
    module: EncoderModel | Segmenter | Classifier | ColorizerModel
    architecture: str
    facts: Mapping[str, Any]

    @property
    def image_size(self) -> int:
        """The image size of its training; 224 where its file does not contain it."""
        return int(self.facts.get("image_size") or 224)


def load_model(path: Path) -> Trained:
    """Loads the model from `path`. Raises UserError where the file is none of the kinds above."""
    found = weights.load(path)
    if found.facts.get("architecture") == ARCHITECTURE:
        return Trained("colorizer", ColorizerModel(trained_from(path)).eval(), ARCHITECTURE, found.facts)
    if any(name.startswith("segmentation_head.") for name in found.tensors) or "mask_layer" in found.facts:
        segmenter = segmenter_from(found, source=path.name)
        return Trained("segmenter", segmenter, segmenter.architecture, found.facts)
    if "classes" in found.facts:
        classifier = classifier_from(found, source=path.name)
        return Trained("classifier", classifier.eval(), classifier.architecture, found.facts)
    encoder = weights.load_encoder(path)
    network = encoders.build(encoder.architecture, channels=encoder.channels)
    encoders.load_weights(network, encoder.tensors, architecture=encoder.architecture, source=path.name)
    module = EncoderModel(network, mean=encoder.mean, deviation=encoder.deviation)
    return Trained("encoder", module.eval(), encoder.architecture, found.facts)
