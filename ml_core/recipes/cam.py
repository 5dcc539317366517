"""Class activation maps of a segmenter, a classifier or a bare encoder, each map with two checks of how faithful it
is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ml_core.data.arrays.prepare import read_image
from ml_core.data.loading.classification_data import labelled
from ml_core.data.manifests.manifest import Manifest, ManifestItem
from ml_core.data.manifests.splits import split
from ml_core.errors import Stopped, UserError
from ml_core.imaging.picture_sheets import cam_sheet, write_png
from ml_core.models import encoders
from ml_core.models.activation_maps import confidence_drop, correlation
from ml_core.models.cam_explainers import (
    ClassifierExplainer,
    EncoderExplainer,
    Explainer,
    Explanation,
    SegmenterExplainer,
)
from ml_core.models.cam_layers import DECODER
from ml_core.models.linear_classifier import classifier_from
from ml_core.models.linear_classifier import new_like as new_classifier_like
from ml_core.models.unet import new_like as new_segmenter_like
from ml_core.models.unet import segmenter_from
from ml_core.recipes.dataset_inputs import open_manifest
from ml_core.runtime import weights
from ml_core.runtime.training_loop import Context
from ml_core.specs import CamSpec
from ml_core.specs.architectures import STRIDE
from ml_core.specs.cam import METHOD_NAMES, RANDOM_CORRELATION_LIMIT

LONGEST = 1024
"""A network trained on crops gets whole images at full resolution, up to this many pixels on the longer side."""


@dataclass(frozen=True)
class Checks:
    """A map's two checks; None where a map is constant, for which neither is defined."""

    confidence_drop: float | None
    random_correlation: float | None

    def sentence(self) -> str:
        if self.confidence_drop is None:
            return "The map is empty: nothing in this layer raises the score."
        alike = self.random_correlation
        return (
            f"Confidence falls {self.confidence_drop:.2f} with the brightest 20 % hidden; correlation with random "
            f"weights {'not defined' if alike is None else f'{alike:.2f}'}."
        )


def run(context: Context[CamSpec]) -> None:
    """Maps the first images of the test or validation part, or of a dataset that has no such part."""
    spec, reporter = context.spec, context.reporter
    _check_one_network(context)
    layer = _layer(context)
    explainer, facts = _explainer(context, layer=layer)
    size = None if facts.get("framing") == "crops" else spec.image_size
    if size and facts.get("image_size", size) != size:
        reporter.note(f"The network was trained at {facts['image_size']} px and is mapped at {size} px.")
    manifest = open_manifest(context.inputs)
    items = manifest.items
    positions = _held_out(manifest, facts, seed=spec.seed)[: spec.images]
    checks: list[Checks] = []

    def check_stop() -> None:
        # Also between the batches of Score-CAM, of which one map may take minutes.
        if reporter.should_stop():
            raise Stopped(f"Stopped after {len(checks)} of {len(positions)} maps. The next start makes them again.")

    for done, position in enumerate(positions.tolist(), start=1):
        check_stop()
        view = _NetworkView.of(
            read_image(items[position], blobs=context.inputs.blobs), size=size, device=context.device
        )
        explanation = explainer.explain(view.network_input, check_stop=check_stop)
        checks.append(
            Checks(
                confidence_drop=confidence_drop(explanation.confidence, view.network_input, explanation.cam),
                random_correlation=correlation(explanation.cam, explanation.random_cam),
            )
        )
        _keep(context, items[position], position, view, explanation, layer=layer, checks=checks[-1])
        reporter.progress(done, len(positions), "maps")
    reporter.results(
        images=len(positions),
        confidence_drop=_mean([c.confidence_drop for c in checks]),
        random_correlation=_mean([c.random_correlation for c in checks]),
        empty_maps=sum(c.confidence_drop is None for c in checks),
        method=spec.method,
        layer=layer,
        origin=facts.get("origin"),
    )


def _held_out(manifest: Manifest, facts: Mapping[str, Any], *, seed: int) -> NDArray[np.int64]:
    """Positions of the test part, else of the validation part, else of all.

    Of the items with a mask in the segmenter's layer, or with a label for a classifier, where there are such: by the
    rule, the share and the seed of its training, so that no image is shown that it has learned from. For a classifier
    the classes take turns.
    """
    if "mask_layer" not in facts and "split" in facts and "seed" in facts:
        # A dataset that a classifier was not trained on may have no labels, or too few for parts.
        with contextlib.suppress(UserError):
            data = labelled(manifest, rule=facts["split"], seed=int(facts["seed"]))
            places = data.places(data.evaluated)
            turn = np.concatenate([np.arange(np.sum(data.labels[places] == k)) for k in range(len(data.classes))])
            by_class = places[np.argsort(data.labels[places], kind="stable")]
            return data.positions[by_class[np.argsort(turn, kind="stable")]]
    layer = str(facts.get("mask_layer", ""))
    chosen = [position for position, item in enumerate(manifest.items) if layer in item.masks]
    parts = split(
        manifest.items,
        chosen=chosen or None,
        rule=facts.get("split", "dataset"),
        validation=float(facts.get("validation_share", 0.25)),
        seed=int(facts.get("seed", seed)),
    )
    return next(part for part in (parts.test, parts.validation, parts.train) if len(part))


NETWORKS = {"segmenter": "a segmentation model", "classifier": "a classifier", "encoder": "an encoder"}


def _check_one_network(context: Context[CamSpec]) -> None:
    """Raises UserError where the given networks do not fit the specification; at a terminal this is the first check."""
    given = [name for name in ("dataset", *NETWORKS) if context.inputs.slot(name) is not None]
    for refusal in context.spec.lacking([*given, "dataset"]):
        raise UserError(refusal.sentence)


def _layer(context: Context[CamSpec]) -> str:
    """The layer to map: the one in the specification, or the encoder's last where a network has no decoder."""
    if context.spec.layer == DECODER and context.inputs.slot("segmenter") is None:
        bare = "A classifier" if context.inputs.slot("classifier") is not None else "A bare encoder"
        context.reporter.note(f"{bare} has no decoder, so its layer4 is mapped.")
        return "layer4"
    return context.spec.layer


def _explainer(context: Context[CamSpec], *, layer: str) -> tuple[Explainer, dict[str, Any]]:
    """The network to explain, on its device, and the facts of its file."""
    spec, device = context.spec, context.device
    name = next(name for name in NETWORKS if context.inputs.slot(name) is not None)
    path = context.inputs.path(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        if name == "segmenter":
            found = weights.load(path)
            trained = segmenter_from(found, source=path.name).to(device)
            names = [str(value) for value in found.facts["classes"]]
            category = _category(spec.target, names, background=True)
            torch.manual_seed(spec.seed)
            random = new_segmenter_like(trained).to(device)
            explainer = SegmenterExplainer(
                trained, random, names=names, method=spec.method, layer=layer, category=category
            )
            return explainer, found.facts
        if name == "classifier":
            found = weights.load(path)
            classifier = classifier_from(found, source=path.name).to(device)
            category = _category(spec.target, classifier.classes, background=False)
            torch.manual_seed(spec.seed)
            twin = new_classifier_like(classifier).to(device)
            return ClassifierExplainer(
                classifier, twin, method=spec.method, layer=layer, category=category
            ), found.facts
        return _encoder_explainer(context, path, layer=layer)


def _encoder_explainer(context: Context[CamSpec], path: Path, *, layer: str) -> tuple[Explainer, dict[str, Any]]:
    spec, device = context.spec, context.device
    if spec.target:
        raise UserError("A bare encoder knows no classes. Leave the field Class empty, or choose a classifier.")
    kept = weights.load_encoder(path)
    encoder = encoders.build(kept.architecture, channels=kept.channels)
    encoders.load_weights(encoder, kept.tensors, architecture=kept.architecture, source=path.name)
    torch.manual_seed(spec.seed)
    twin = encoders.build(kept.architecture, channels=kept.channels)
    explainer = EncoderExplainer(
        encoder.to(device), twin.to(device), layer=layer, mean=kept.mean, deviation=kept.deviation
    )
    return explainer, kept.facts


def _category(wanted: str, classes: Sequence[str], *, background: bool) -> int | None:
    """The number of the class called `wanted`; None where it is empty. Raises UserError for one that is not there."""
    if not wanted:
        return None
    if wanted not in classes[background:]:
        raise UserError(
            f"This network knows no class {wanted} to explain. It knows: {', '.join(classes[background:])}. Name one "
            "of these, or leave the field Class empty."
        )
    return list(classes).index(wanted, int(background))


@dataclass(frozen=True)
class _NetworkView:
    """An image and the network's input made of it: resized, and padded by reflection to multiples of 32."""

    whole: np.ndarray
    network_input: Tensor
    """(1, 1, h, w) in 0..1, on the device."""
    inside: tuple[int, int]
    """How much of the input is image; the rest, below and on the right, is reflection."""

    @classmethod
    def of(cls, whole: np.ndarray, *, size: int | None, device: torch.device) -> _NetworkView:
        """`whole` (H, W) uint8; `size` the side of the square that it is resized to, None for its own size."""
        grey = torch.from_numpy(np.array(whole))[None, None].to(device).float() / 255
        height, width = whole.shape
        shrink = min(1.0, LONGEST / max(height, width))
        inside = (size, size) if size else (round(height * shrink), round(width * shrink))
        if inside != (height, width):
            grey = functional.interpolate(grey, size=inside, mode="bilinear", antialias=True)
        below, right = -inside[0] % STRIDE, -inside[1] % STRIDE
        mode = "reflect" if below < inside[0] and right < inside[1] else "replicate"
        return cls(whole, functional.pad(grey, (0, right, 0, below), mode=mode), inside)

    def at_own_size(self, cam: np.ndarray) -> np.ndarray:
        """Resizes a map of the network's input to the image: (H, W) float in 0..1."""
        inside = np.ascontiguousarray(cam[: self.inside[0], : self.inside[1]], dtype=np.float32)
        size = (self.whole.shape[1], self.whole.shape[0])
        return np.asarray(Image.fromarray(inside).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)


def _keep(
    context: Context[CamSpec],
    item: ManifestItem,
    position: int,
    view: _NetworkView,
    explanation: Explanation,
    *,
    layer: str,
    checks: Checks,
) -> None:
    """Saves the map as an 8-bit picture of the image's size, and the sheet that shows it with its checks."""
    spec = context.spec
    facts = {
        "item": position,
        "image": item.image.sha256,
        "page": item.image.page,
        "method": spec.method,
        "layer": layer,
        "target": explanation.target,
        **asdict(checks),
        "random_correlation_limit": RANDOM_CORRELATION_LIMIT,
    }
    cam, random_cam = view.at_own_size(explanation.cam), view.at_own_size(explanation.random_cam)
    path = write_png((cam * 255).round().astype(np.uint8), context.artifacts / f"cam-{position:07d}.png")
    context.reporter.artifact("cam", path, **facts)
    caption = f"{item.name}: {METHOD_NAMES[spec.method]} of {layer} for {explanation.target}. {checks.sentence()}"
    sheet = cam_sheet(view.whole, cam, random_cam, caption=caption)
    sheet_path: Path = write_png(sheet.picture, context.artifacts / f"cam-sheet-{position:07d}.png")
    context.reporter.artifact("cam_sheet", sheet_path, **facts, panels=sheet.panels())


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
