"""What a network looks at: Grad-CAM and EigenCAM, and two checks of a map's truth.

Selvaraju et al., "Grad-CAM" (ICCV 2017); Muhammad and Yeasin, "Eigen-CAM" (IJCNN 2020). Both give the maps of the
grad-cam package, and scale them by its own function, but compute no more than they need: nothing behind the layer for
EigenCAM, no gradient before the layer for Grad-CAM, no full singular value decomposition. The second check is that of
Adebayo et al., "Sanity Checks for Saliency Maps" (NeurIPS 2018): a map that random weights draw as well says nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from torch import Tensor, nn

FLAT = 1e-6
"""A map whose values differ by less is the same everywhere."""

HIDDEN_SHARE = 0.2
"""How much of the image is hidden for the confidence drop: its brightest fifth on the map."""


def grad_cam(network: nn.Module, layer: nn.Module, x: Tensor, *, score: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Where the maps of `layer` raise `score`, which turns the output of `network` into a scalar of shape ().

    Each channel is weighted by its mean gradient over the places, and what lowers the score is cut off (eq. 1 and 2 of
    Selvaraju et al.). With several images `x` (B, C, H, W) the score is the sum of theirs. Returns (B, H, W) float32
    in 0..1, each scaled to its own maximum. Neither the network's gradients nor its parameters are touched.
    """
    kept: list[Tensor] = []

    def begin_here(_module: nn.Module, _given: object, output: Tensor) -> Tensor:
        # The graph begins at the layer: what lies before it, frozen or not, takes no part. A copy goes on, as a later
        # operation in place must not change what was kept.
        kept.append(output.requires_grad_())
        torch.set_grad_enabled(True)
        return output.clone()

    hook = layer.register_forward_hook(begin_here)
    try:
        with torch.no_grad():
            (gradients,) = torch.autograd.grad(score(network(x)), kept)
    finally:
        hook.remove()
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return _scaled((weights * kept[0].detach()).sum(dim=1), like=x)


def eigen_cam(network: nn.Module, layer: nn.Module, x: Tensor) -> np.ndarray:
    """The strongest common pattern of the maps of `layer` for each image of `x` (B, C, H, W).

    Returns (B, H, W) float32 in 0..1, each scaled to its own maximum.
    """
    kept: list[Tensor] = []

    def enough(_module: nn.Module, _given: object, output: Tensor) -> None:
        kept.append(output)
        raise _Reached

    hook = layer.register_forward_hook(enough)
    try:
        with torch.inference_mode():
            network(x)
    except _Reached:
        pass
    finally:
        hook.remove()
    [activations] = kept
    return _scaled(torch.stack([first_pattern(image) for image in activations]), like=x)


class _Reached(Exception):
    """The layer has answered; nothing behind it is needed."""


@torch.inference_mode()
def first_pattern(activations: Tensor) -> Tensor:
    """The projection (h, w) of `activations` (C, h, w) on their first principal component over the places.

    By the smaller Gram matrix: the same as by a full singular value decomposition, tens of times sooner. For centred
    activations A (places, channels), the projection on the first right singular vector is A times the first
    eigenvector of A^T A, or the first eigenvector of A A^T times the first singular value. The sign of an eigenvector
    is arbitrary, and half of the maps would show the background; it is set so that the map agrees with where
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


def _scaled(maps: Tensor, *, like: Tensor) -> np.ndarray:
    """Maps (B, h, w) brought to the size of the images `like` and to 0..1, what is below 0 cut off."""
    size = (like.shape[-1], like.shape[-2])
    # Twice, as the package does for its mean over one layer.
    positive = scale_cam_image(maps.clamp_min(0).float().cpu().numpy(), size)
    return np.asarray(scale_cam_image(positive), dtype=np.float32)


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
