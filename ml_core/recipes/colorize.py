"""Colour planes for every micrograph of a dataset: the second view of the paper (section IV-A)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ml_core.data.arrays.colour_planes import Planes
from ml_core.data.loading.device_array import DeviceArray
from ml_core.data.manifests.manifest import Manifest
from ml_core.errors import Stopped, UserError
from ml_core.imaging.picture_sheets import colour_pairs_sheet, write_png
from ml_core.imaging.tensor_lab import lab_to_rgb, lightness_of_grey
from ml_core.job.files import sha256_of
from ml_core.models.colorizers.eccv16 import eccv16_from
from ml_core.models.colorizers.structured import structured_ab
from ml_core.models.colorizers.trained import trained_from
from ml_core.recipes.dataset_inputs import open_images, open_manifest
from ml_core.runtime import weights
from ml_core.runtime.training_loop import Context
from ml_core.specs import ColorizeSpec

SHOWN = 6
"""Pairs on a sheet."""


def run(context: Context[ColorizeSpec]) -> None:
    """Colorizes every item and saves the ab planes as the artifact `colour`."""
    spec, reporter = context.spec, context.reporter
    manifest = open_manifest(context.inputs)
    images = open_images(context, manifest, size=spec.image_size).array
    feed = DeviceArray(images, device=context.device)
    colorize = _colorizer(context)
    side = plane_size(spec.image_size)
    planes = Planes(
        context.folder,
        count=len(feed),
        side=side,
        about=_about(context, manifest),
        resume=context.inputs.resume,
        reporter=reporter,
    )
    reporter.progress(planes.done, len(feed), "images")
    while planes.done < len(feed):
        if reporter.should_stop():
            planes.checkpoint()
            raise Stopped(f"Stopped after {planes.done:,} of {len(feed):,} images; the next start goes on there.")
        batch = np.arange(planes.done, min(planes.done + spec.batch_size, len(feed)))
        with torch.inference_mode():
            ab = colorize(feed.batch(batch)[:, None].float() / 255)
        planes.append(_as_bytes(functional.adaptive_avg_pool2d(ab.float(), side)))
        if batch[0] == 0 and planes.done < len(feed):
            _show(context, manifest, images, planes, batch[:SHOWN])
        reporter.progress(planes.done, len(feed), "images")
        planes.checkpoint_when_due()
    spread = np.linspace(0, len(feed) - 1, min(SHOWN, len(feed))).round().astype(np.int64)
    _show(context, manifest, images, planes, spread)
    _keep(context, manifest, planes, side=side)
    planes.close()
    reporter.results(images=len(images), origin=spec.method, size=side)


def plane_size(image_size: int) -> int:
    """The side of the planes for images of this size: a quarter, but at least 64 px, or the image's where smaller.

    The eye and the network of Zhang et al. resolve colour at a quarter of the size of brightness; eccv16 computes it
    there. So 150,000 images of 256 px take 1.2 GB of colour instead of 20.
    """
    return min(image_size, max(64, image_size // 4))


def _about(context: Context[ColorizeSpec], manifest: Manifest) -> dict[str, Any]:
    """The facts that decide the planes: planes that were begun with other facts are not resumed."""
    spec = context.spec
    about = {"origin": spec.method, "image_size": spec.image_size, "manifest": manifest.sha256}
    # There is one eccv16, but many that were trained.
    return about | {"colorizer": sha256_of(_imported(context))} if spec.method == "trained" else about


def _colorizer(context: Context[ColorizeSpec]) -> Callable[[Tensor], Tensor]:
    """A function from grey (B, 1, H, W) in 0..1 on the device to ab (B, 2, H, W)."""
    method = context.spec.method
    if method == "structured":
        return structured_ab
    network: nn.Module
    if method == "trained":
        network = trained_from(_imported(context))
    else:
        brought = context.inputs.path("colorizer") if context.inputs.slot("colorizer") is not None else None
        network = eccv16_from(brought, keep=context.inputs.prepared / "weights")
    network.to(memory_format=torch.channels_last).to(context.device)

    def colorize(grey: Tensor) -> Tensor:
        with context.autocast():
            ab: Tensor = network(lightness_of_grey(grey))
        return ab

    return colorize


def _imported(context: Context[ColorizeSpec]) -> Path:
    """The colorizer that was trained here. Raises UserError where none is given."""
    if context.inputs.slot("colorizer") is None:
        raise UserError(
            "The method trained needs a colorizer that was trained here. Choose the result of a train_colorizer job, "
            "or take the method structured, which needs none."
        )
    return context.inputs.path("colorizer")


def _as_bytes(ab: Tensor) -> NDArray[np.uint8]:
    """ab rounded to whole numbers and moved to 0..255."""
    return (ab.round() + 128).clamp(0, 255).to(torch.uint8).cpu().numpy()


def _show(
    context: Context[ColorizeSpec],
    manifest: Manifest,
    images: NDArray[np.uint8],
    planes: Planes,
    positions: NDArray[np.int64],
) -> None:
    """A sheet of grey images beside the same with their saved planes, as pretraining will use them."""
    pairs = []
    for position in positions.tolist():
        grey = np.array(images[position])
        light = torch.from_numpy(grey)[None, None].float() / 255
        ab = torch.from_numpy(np.array(planes.all[position]))[None].float() - 128
        ab = functional.interpolate(ab, size=grey.shape, mode="bilinear")
        rgb = lab_to_rgb(torch.cat([lightness_of_grey(light), ab], dim=1))[0]
        pairs.append((grey, (rgb * 255).round().byte().permute(1, 2, 0).numpy()))
    names = [manifest.items[position].name for position in positions.tolist()]
    sheet = colour_pairs_sheet(pairs, names=names, origin=context.spec.method)
    path = write_png(sheet.picture, context.artifacts / f"colour-pairs-{planes.done:07d}.png")
    context.reporter.artifact(
        "colour_pairs", path, step=planes.done, items=names, origin=context.spec.method, panels=sheet.panels()
    )


def _keep(context: Context[ColorizeSpec], manifest: Manifest, planes: Planes, *, side: int) -> None:
    facts = {"origin": context.spec.method, "size": side, "manifest": manifest.sha256}
    path: Path = context.artifacts / "colour.safetensors"
    weights.save(path, {"ab": torch.from_numpy(np.array(planes.all))}, facts=facts)
    context.reporter.artifact("colour", path, **facts)
