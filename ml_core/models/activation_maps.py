"""Computes class activation maps with the grad-cam package, faster where possible, and two checks of a map.

Grad-CAM (Selvaraju et al., ICCV 2017), Grad-CAM++ (Chattopadhay et al., WACV 2018), LayerCAM (Jiang et al., TIP 2021),
EigenCAM (Muhammad and Yeasin, IJCNN 2020) and Score-CAM (Wang et al., CVPR Workshops 2020) are the classes of
`pytorch_grad_cam`. Each is subclassed here: weights, sum over channels and scaling stay the package's, but no more is
computed than a map needs. The second check is that of Adebayo et al., "Sanity Checks for Saliency Maps" (NeurIPS 2018):
a map that a network with random weights gives as well explains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget
from torch import Tensor, nn
from torch.nn import functional

FLAT = 1e-6
"""A map whose values differ by less counts as constant."""

HIDDEN_SHARE = 0.2
"""Share of the image that is hidden for the confidence drop: the brightest fifth of the map."""

SCORE_CAM_PIXELS = 32 * 224 * 224
"""Score-CAM passes at most this many pixels through the network at once, so its memory does not grow with the image."""

Target = Callable[[Tensor], Tensor]
"""A target of the package: maps the network's output for one image, without the batch axis, to a scalar."""


class MaskMeanTarget(SemanticSegmentationTarget):
    """The mean of a class's logits over the pixels of a mask, where the package's own target takes their sum.

    Score-CAM takes a softmax over the scores of its masked images. Sums over thousands of pixels differ so much that
    one channel would get all the weight.
    """

    def __call__(self, model_output: Tensor) -> Tensor:
        total: Tensor = super().__call__(model_output)
        return total / self.mask.sum().clamp_min(1).to(model_output.device)


class _FromLayer(BaseCAM):
    """Starts the autograd graph at the layer: nothing before it is differentiated.

    Faster than the package's backward pass to the first weights, and works for frozen weights, for which the package
    gets no gradients. Neither the network's parameters nor their gradients are changed.
    """

    def forward(
        self, input_tensor: Tensor, targets: Sequence[Target], eigen_smooth: bool = False
    ) -> NDArray[np.float32]:
        [layer] = self.target_layers
        starts: list[Tensor] = []

        def begin_here(_module: nn.Module, _given: object, output: Tensor) -> Tensor:
            # A copy is passed on, as a later in-place operation must not change the stored activations.
            starts.append(output.requires_grad_())
            torch.set_grad_enabled(True)
            return output.clone()

        # Registered after the package's own hooks, which store the activations.
        hook = layer.register_forward_hook(begin_here)
        try:
            with torch.no_grad():
                outputs = self.activations_and_grads(input_tensor.to(self.device))
                scores = [target(output) for target, output in zip(targets, outputs, strict=True)]
                gradients = torch.autograd.grad(torch.stack(scores).sum(), starts)
        finally:
            hook.remove()
        self.activations_and_grads.gradients = [gradient.cpu() for gradient in gradients]
        cams = self.compute_cam_per_layer(input_tensor, targets, eigen_smooth)
        return self.aggregate_multi_layers(cams)


class FastGradCAM(_FromLayer, GradCAM):
    """Channels weighted by their mean gradient over all positions."""


class FastGradCAMPlusPlus(_FromLayer, GradCAMPlusPlus):
    """Channels weighted by their positive gradients, so that several small objects count as one large one."""


class FastLayerCAM(_FromLayer, LayerCAM):
    """Every position of a channel weighted by its own positive gradient: finer, and suited to early layers."""


class FastEigenCAM(EigenCAM):
    """The first principal component of the layer's channels. Computes no further than the layer; needs no target."""

    def forward(
        self, input_tensor: Tensor, targets: Sequence[Target] | None = None, eigen_smooth: bool = False
    ) -> NDArray[np.float32]:
        [layer] = self.target_layers

        def enough(_module: nn.Module, _given: object, _output: Tensor) -> None:
            raise _Reached

        hook = layer.register_forward_hook(enough)
        try:
            with torch.inference_mode():
                self.activations_and_grads(input_tensor.to(self.device))
        except _Reached:
            pass
        finally:
            hook.remove()
        cams = self.compute_cam_per_layer(input_tensor, targets, eigen_smooth)
        return self.aggregate_multi_layers(cams)

    def get_cam_image(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: Sequence[Target] | None,
        activations: NDArray[np.float32],
        grads: None,
        eigen_smooth: bool = False,
    ) -> NDArray[np.float32]:
        # The package replaces NaN by 0.
        kept = torch.from_numpy(np.where(np.isnan(activations), 0, activations)).to(self.device)
        return np.asarray(torch.stack([first_pattern(image) for image in kept]).float().cpu().numpy())


class _Reached(Exception):
    """Raised when the layer's output is computed, to skip the layers after it."""


class BoundedScoreCAM(ScoreCAM):
    """Channels weighted by the score of the image masked with them: one forward pass for each channel, no gradients.

    The package masks the image with all channels at once, which for 2,048 channels and 1,024 px takes tens of GB, and
    keeps the layer's activations of every pass. Here both are in memory for one batch of channels at a time.
    `before_batch` is called before each batch and may raise to stop.
    """

    before_batch: Callable[[], None] | None = None

    def forward(
        self, input_tensor: Tensor, targets: Sequence[Target], eigen_smooth: bool = False
    ) -> NDArray[np.float32]:
        with torch.no_grad():
            return super().forward(input_tensor, targets, eigen_smooth)

    def get_cam_weights(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: Sequence[Target],
        activations: NDArray[np.float32],
        grads: None,
    ) -> NDArray[np.float32]:
        images = input_tensor.to(self.device)
        size = images.shape[-2:]
        step = max(1, SCORE_CAM_PIXELS // size.numel())
        scores = torch.zeros(activations.shape[:2])
        for row, (image, channels, target) in enumerate(zip(images, activations, targets, strict=True)):
            for first in range(0, len(channels), step):
                if self.before_batch is not None:
                    self.before_batch()
                maps = torch.from_numpy(channels[first : first + step])[:, None].to(self.device)
                masks = functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)
                low, high = masks.amin(dim=(2, 3), keepdim=True), masks.amax(dim=(2, 3), keepdim=True)
                outputs = self.model(image * ((masks - low) / (high - low + 1e-8)))
                scores[row, first : first + step] = torch.stack([target(output) for output in outputs]).float().cpu()
                self.activations_and_grads.activations.clear()
        return np.asarray(scores.softmax(dim=-1).numpy())


CAM_CLASSES: Mapping[str, type[Any]] = {
    "gradcam": FastGradCAM,
    "gradcamplusplus": FastGradCAMPlusPlus,
    "layercam": FastLayerCAM,
    "eigencam": FastEigenCAM,
    "scorecam": BoundedScoreCAM,
}
"""The classes by the values of the specification's field `method`."""


def activation_map(
    method: str,
    network: nn.Module,
    layer: nn.Module,
    x: Tensor,
    *,
    targets: Sequence[Target] | None = None,
    before_batch: Callable[[], None] | None = None,
) -> NDArray[np.float32]:
    """The maps of `layer` for the images `x` (B, C, H, W), by one of CAM_CLASSES.

    `targets` holds one for each image; EigenCAM needs none. Returns (B, H, W) float32 in 0..1, each scaled to its own
    maximum, negative values set to 0. `before_batch` is called before each batch of Score-CAM's many passes.
    """
    cam = CAM_CLASSES[method](network, [layer])
    if method == "scorecam":
        cam.before_batch = before_batch
    # Not with the package's `with` statement, which prints an IndexError and continues.
    try:
        return np.asarray(cam(x, targets), dtype=np.float32)
    finally:
        cam.activations_and_grads.release()


@torch.inference_mode()
def first_pattern(activations: Tensor) -> Tensor:
    """The projection (h, w) of `activations` (C, h, w) on their first principal component over all positions.

    Uses the smaller Gram matrix: same result as a full singular value decomposition, tens of times faster. For centred
    activations A (positions, channels), the projection on the first right singular vector is A times the first
    eigenvector of A^T A, or the first eigenvector of A A^T times the first singular value. The sign of an eigenvector
    is arbitrary, and half of the maps would show the background; it is chosen so that the map is high where
    activations are strong.
    """
    places = activations.flatten(1).T.double()
    strength = places.norm(dim=1)
    centred = places - places.mean(dim=0)
    if len(centred) < centred.shape[1]:
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        projection = vectors[:, -1] * values[-1].clamp_min(0).sqrt()
    else:
        projection = centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    if (projection * (strength - strength.mean())).sum() < 0:
        projection = -projection
    return projection.view(activations.shape[1:])


def confidence_drop(confidence: Callable[[Tensor], float], grey: Tensor, cam: np.ndarray) -> float | None:
    """How much `confidence` of the image `grey` (1, 1, H, W) falls when the brightest fifth of the map is hidden.

    Hidden pixels take the mean grey of the rest. A large drop means that the map shows what matters. None for a
    constant map, which has no brightest part.
    """
    if np.ptp(cam) < FLAT:
        return None
    brightest = np.argsort(cam, axis=None, kind="stable")[-round(cam.size * HIDDEN_SHARE) :]
    hidden = torch.zeros(cam.size, dtype=torch.bool)
    hidden[torch.from_numpy(brightest.copy())] = True
    hidden = hidden.view(1, 1, *cam.shape).to(grey.device)
    return confidence(grey) - confidence(torch.where(hidden, grey[~hidden].mean(), grey))


def correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Pearson's correlation of two maps of one shape; None where one of them is constant."""
    if min(np.ptp(first), np.ptp(second)) < FLAT:
        return None
    a, b = (m.astype(np.float64).ravel() - m.mean(dtype=np.float64) for m in (first, second))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
