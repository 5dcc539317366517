"""What a network looks at: Grad-CAM and EigenCAM through the grad-cam package, and two checks of a map's truth.

Selvaraju et al., "Grad-CAM" (ICCV 2017); Muhammad and Yeasin, "Eigen-CAM" (IJCNN 2020). The second check is that of
Adebayo et al., "Sanity Checks for Saliency Maps" (NeurIPS 2018): a map that random weights draw as well says nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pytorch_grad_cam import EigenCAM, GradCAM
from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget
from torch import Tensor, nn

FLAT = 1e-6
"""A map whose values differ by less is the same everywhere."""

HIDDEN_SHARE = 0.2
"""How much of the image is hidden for the confidence drop: its brightest fifth on the map."""


def grad_cam(network: nn.Module, layer: nn.Module, x: Tensor, *, category: int, mask: np.ndarray) -> np.ndarray:
    """Where the maps of `layer` raise the logits of channel `category`, summed over `mask`.

    `network` maps `x` (1, C, H, W) to logits (1, K, H, W); `mask` is (H, W) of 0 and 1. Returns (H, W) float32 in
    0..1, scaled to its own maximum.
    """
    # A frozen network has no parameter that asks for a gradient; the input asks for one, so that there is a graph.
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad(), GradCAM(model=network, target_layers=[layer]) as cam:
        return cam(input_tensor=x, targets=[SemanticSegmentationTarget(category, mask.astype(np.float32))])[0]


def eigen_cam(encoder: nn.Module, layer: nn.Module, x: Tensor) -> np.ndarray:
    """The strongest common pattern of the maps of `layer` for one image `x` (1, C, H, W): (H, W) float32 in 0..1."""
    with torch.no_grad(), GramEigenCAM(model=encoder, target_layers=[layer]) as cam:
        # Targets are not used, but the package would look for classes in the output without them.
        return cam(input_tensor=x, targets=[None])[0]


class GramEigenCAM(EigenCAM):
    """EigenCAM by the smaller Gram matrix: the same map as by the package's full SVD, tens of times sooner.

    For activations A (places, channels), centred, the projection on the first right singular vector is A times the
    first eigenvector of A^T A, or the first eigenvector of A A^T times the first singular value. The sign of an
    eigenvector is arbitrary, and half of the maps would show the background; it is set so that the map agrees with
    where activations are strong.
    """

    def get_cam_image(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        target_category: object,
        activations: np.ndarray,
        grads: np.ndarray,
        eigen_smooth: bool,
    ) -> np.ndarray:
        maps = []
        for image in torch.from_numpy(activations).double():
            places = image.flatten(1).T
            strength = places.norm(dim=1)
            centred = places - places.mean(dim=0)
            if len(centred) < centred.shape[1]:
                values, vectors = torch.linalg.eigh(centred @ centred.T)
                projection = vectors[:, -1] * values[-1].clamp_min(0).sqrt()
            else:
                projection = centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
            if (projection * (strength - strength.mean())).sum() < 0:
                projection = -projection
            maps.append(projection.view(image.shape[1:]))
        return torch.stack(maps).float().numpy()


def confidence_drop(confidence: Callable[[Tensor], float], grey: Tensor, cam: np.ndarray) -> float | None:
    """How much `confidence` of the image `grey` (1, 1, H, W) falls when the brightest fifth of the map is hidden.

    Hidden pixels take the mean grey of the rest. A map that shows what matters makes it fall by much. None for a map
    that is the same everywhere: it has no brightest part.
    """
    if np.ptp(cam) < FLAT:
        return None
    brightest = np.argsort(cam, axis=None, kind="stable")[-round(cam.size * HIDDEN_SHARE) :]
    hidden = torch.zeros(cam.size, dtype=torch.bool)
    hidden[torch.from_numpy(brightest.copy())] = True
    hidden = hidden.view(1, 1, *cam.shape).to(grey.device)
    return confidence(grey) - confidence(torch.where(hidden, grey[~hidden].mean(), grey))


def correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Pearson's correlation of two maps of one shape; None where one of them is the same everywhere."""
    if min(np.ptp(first), np.ptp(second)) < FLAT:
        return None
    a, b = (m.astype(np.float64).ravel() - m.mean(dtype=np.float64) for m in (first, second))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
