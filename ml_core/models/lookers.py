"""A network together with the question that its activation maps answer, and a twin of it with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.models.activation_maps import eigen_cam, grad_cam
from ml_core.models.encoders import features
from ml_core.models.unet import Segmenter, class_map, probabilities_of

DECODER = "decoder"
"""The decoder's last block but one, at half of the image's size: there the skip connections have joined what the
encoder's stages found. The last block all but repeats the prediction."""


@dataclass(frozen=True)
class Look:
    """What was found in one image: maps (H, W) float32 in 0..1."""

    cam: np.ndarray
    random_cam: np.ndarray
    """The map that the same network draws with random weights, asked the same."""
    target: str
    """What the map explains, in words."""
    confidence: Callable[[Tensor], float]
    """How sure the network is of the same answer when it is shown another image (1, 1, H, W), in 0..1."""


class Looker(Protocol):
    def look(self, grey: Tensor) -> Look:
        """Looks at one image (1, 1, H, W) in 0..1; H and W are multiples of 32."""


class SegmenterLooker:
    """Asks a segmenter what makes it see the foreground that it predicts.

    Of several classes, the one that it finds most of. Where it finds none, the question is what comes nearest to
    foreground, anywhere in the image.
    """

    def __init__(
        self, trained: Segmenter, random: Segmenter, *, method: Literal["gradcam", "eigencam"], layer: str
    ) -> None:
        self._trained, self._random = trained.eval(), random.eval()
        self._method = method
        self._layer = layer

    def look(self, grey: Tensor) -> Look:
        with torch.inference_mode():
            classes = class_map(self._trained(grey))[0]
        counts = torch.bincount(classes.flatten(), minlength=self._trained.classes)[1:]
        category = int(counts.argmax()) + 1
        found = classes == category
        mask = found if bool(found.any()) else torch.ones_like(found)

        @torch.inference_mode()
        def confidence(image: Tensor) -> float:
            return float(probabilities_of(self._trained(image))[0, category][mask].mean())

        asked = "the predicted foreground" if self._trained.classes == 2 else f"class {category} as predicted"
        return Look(
            cam=self._map(self._trained, grey, category=category, mask=mask),
            random_cam=self._map(self._random, grey, category=category, mask=mask),
            target=asked if bool(found.any()) else "foreground (none was predicted)",
            confidence=confidence,
        )

    def _map(self, segmenter: Segmenter, grey: Tensor, *, category: int, mask: Tensor) -> np.ndarray:
        network, x = segmenter.network, segmenter.normalised(grey)
        layer = network.decoder.blocks[-2] if self._layer == DECODER else network.encoder.get_submodule(self._layer)
        if self._method == "eigencam":
            return eigen_cam(network, layer, x)
        # With one foreground class the network has one channel of logits: that of foreground.
        channel = category - 1 if segmenter.classes == 2 else category
        return grad_cam(network, layer, x, category=channel, mask=mask.cpu().numpy())


class EncoderLooker:
    """Asks a bare encoder for the strongest common pattern of its features. Its confidence is how like the feature
    vector stays (cosine) to that of the whole image."""

    target = "the strongest common pattern"

    def __init__(
        self, trained: nn.Module, random: nn.Module, *, layer: str, mean: Sequence[float], deviation: Sequence[float]
    ) -> None:
        self._trained, self._random = trained.eval(), random.eval()
        self._layer = layer
        self._mean, self._deviation = mean, deviation

    def look(self, grey: Tensor) -> Look:
        x = self._normalised(grey)
        with torch.inference_mode():
            whole = features(self._trained, x)

        @torch.inference_mode()
        def confidence(image: Tensor) -> float:
            return float(functional.cosine_similarity(features(self._trained, self._normalised(image)), whole))

        cam, random_cam = (eigen_cam(e, e.get_submodule(self._layer), x) for e in (self._trained, self._random))
        return Look(cam=cam, random_cam=random_cam, target=self.target, confidence=confidence)

    def _normalised(self, grey: Tensor) -> Tensor:
        mean, deviation = (grey.new_tensor(v).view(1, -1, 1, 1) for v in (self._mean, self._deviation))
        return (grey.expand(-1, len(self._mean), -1, -1) - mean) / deviation
