"""Explains a network's output for an image by activation maps, compared with the same network with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, SemanticSegmentationTarget
from torch import Tensor, nn
from torch.nn import functional

from ml_core.models.activation_maps import MaskMeanTarget, activation_map
from ml_core.models.cam_layers import DECODER, decoder_of, stage_of
from ml_core.models.encoders import features
from ml_core.models.linear_classifier import Classifier
from ml_core.models.unet import Segmenter, class_map, probabilities_of

Check = Callable[[], None]
"""Called regularly while an explanation is computed; it may raise to stop."""


@dataclass(frozen=True)
class Explanation:
    """The explanation for one image: maps (H, W) float32 in 0..1."""

    cam: np.ndarray
    random_cam: np.ndarray
    """The map of the same network with random weights, for the same target."""
    target: str
    """A description of the output that the map explains."""
    confidence: Callable[[Tensor], float]
    """The network's confidence, in 0..1, in the same output for another image (1, 1, H, W)."""


class Explainer(Protocol):
    def explain(self, grey: Tensor, *, check_stop: Check | None = None) -> Explanation:
        """Explains the output for one image (1, 1, H, W) in 0..1; H and W are multiples of 32."""


class SegmenterExplainer:
    """Explains the foreground that a segmenter predicts.

    Of several classes, the one with the most predicted pixels, unless a `category` (1, 2, ...) is given. Where none is
    predicted, the target is that class's logits over the whole image. `names` holds the classes' names.
    """

    def __init__(
        self,
        trained: Segmenter,
        random: Segmenter,
        *,
        names: Sequence[str],
        method: str,
        layer: str,
        category: int | None = None,
    ) -> None:
        self._names = names
        self._trained, self._random = trained.eval(), random.eval()
        self._method = method
        self._layer = layer
        self._category = category

    def explain(self, grey: Tensor, *, check_stop: Check | None = None) -> Explanation:
        with torch.inference_mode():
            classes = class_map(self._trained(grey))[0]
        counts = torch.bincount(classes.flatten(), minlength=self._trained.classes)[1:]
        category = self._category or int(counts.argmax()) + 1
        found = classes == category
        mask = found if bool(found.any()) else torch.ones_like(found)

        @torch.inference_mode()
        def confidence(image: Tensor) -> float:
            return float(probabilities_of(self._trained(image))[0, category][mask].mean())

        alone = self._trained.classes == 2
        asked = "the predicted foreground" if alone else f"class {self._names[category]} as predicted"
        nothing = "foreground (none was predicted)" if alone else f"class {self._names[category]} (none was predicted)"
        return Explanation(
            cam=self._map(self._trained, grey, category=category, mask=mask, check_stop=check_stop),
            random_cam=self._map(self._random, grey, category=category, mask=mask, check_stop=check_stop),
            target=asked if bool(found.any()) else nothing,
            confidence=confidence,
        )

    def _map(
        self, segmenter: Segmenter, grey: Tensor, *, category: int, mask: Tensor, check_stop: Check | None
    ) -> np.ndarray:
        network, x = segmenter.network, segmenter.normalised(grey)
        layer = decoder_of(network) if self._layer == DECODER else stage_of(network.encoder, self._layer)
        # With one foreground class the network has a single channel of logits: the foreground's.
        channel = category - 1 if segmenter.classes == 2 else category
        kind = MaskMeanTarget if self._method == "scorecam" else SemanticSegmentationTarget
        targets = [kind(channel, mask.float().cpu().numpy())]
        return activation_map(self._method, network, layer, x, targets=targets, before_batch=check_stop)[0]


class ClassifierExplainer:
    """Explains the class that a classifier predicts, or its logit of the class with the number `category`."""

    def __init__(
        self, trained: Classifier, random: Classifier, *, method: str, layer: str, category: int | None = None
    ) -> None:
        self._trained, self._random = trained.eval(), random.eval()
        self._method = method
        self._layer = layer
        self._category = category

    def explain(self, grey: Tensor, *, check_stop: Check | None = None) -> Explanation:
        with torch.inference_mode():
            shares = self._trained(grey).softmax(dim=1)[0]
        predicted = int(shares.argmax())
        category = predicted if self._category is None else self._category

        @torch.inference_mode()
        def confidence(image: Tensor) -> float:
            return float(self._trained(image).softmax(dim=1)[0, category])

        name = self._trained.classes[category]
        answer = "as predicted" if category == predicted else f"where {self._trained.classes[predicted]} is predicted"
        return Explanation(
            cam=self._map(self._trained, grey, category=category, check_stop=check_stop),
            random_cam=self._map(self._random, grey, category=category, check_stop=check_stop),
            target=f"{name}, {answer}",
            confidence=confidence,
        )

    def _map(self, classifier: Classifier, grey: Tensor, *, category: int, check_stop: Check | None) -> np.ndarray:
        layer = stage_of(classifier.encoder, self._layer)
        targets = [ClassifierOutputTarget(category)]
        return activation_map(self._method, classifier, layer, grey, targets=targets, before_batch=check_stop)[0]


class EncoderExplainer:
    """Shows the first principal component of a bare encoder's features. The confidence is the cosine similarity of the
    feature vector to that of the whole image."""

    target = "the strongest common pattern"

    def __init__(
        self, trained: nn.Module, random: nn.Module, *, layer: str, mean: Sequence[float], deviation: Sequence[float]
    ) -> None:
        self._trained, self._random = trained.eval(), random.eval()
        self._layer = layer
        self._mean, self._deviation = mean, deviation

    def explain(self, grey: Tensor, *, check_stop: Check | None = None) -> Explanation:
        x = self._normalised(grey)
        with torch.inference_mode():
            whole = features(self._trained, x)

        @torch.inference_mode()
        def confidence(image: Tensor) -> float:
            return float(functional.cosine_similarity(features(self._trained, self._normalised(image)), whole))

        networks = (self._trained, self._random)
        cam, random_cam = (activation_map("eigencam", e, stage_of(e, self._layer), x)[0] for e in networks)
        return Explanation(cam=cam, random_cam=random_cam, target=self.target, confidence=confidence)

    def _normalised(self, grey: Tensor) -> Tensor:
        mean, deviation = (grey.new_tensor(v).view(1, -1, 1, 1) for v in (self._mean, self._deviation))
        return (grey.expand(-1, len(self._mean), -1, -1) - mean) / deviation
