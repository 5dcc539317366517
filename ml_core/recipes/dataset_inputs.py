"""Opens the slot `dataset` for a recipe: the manifest, prepared arrays that all jobs share, the split."""

from __future__ import annotations

from typing import Any

from ml_core.data.arrays.prepare import Prepared, Progress, prepare, prepare_masks, prepare_whole, prepare_whole_masks
from ml_core.data.loading.segmentation_data import SegmentationData, layer_of
from ml_core.data.manifests import folder_manifest
from ml_core.data.manifests import manifest as manifests
from ml_core.data.manifests.manifest import Manifest
from ml_core.data.manifests.splits import split
from ml_core.errors import Stopped, UserError
from ml_core.job.inputs import Inputs
from ml_core.job.reporting import Reporter
from ml_core.runtime.training_loop import Context
from ml_core.specs import SegmentSpec


def open_manifest(inputs: Inputs) -> Manifest:
    """The dataset's manifest; at a terminal one is made of the folder. Raises UserError where there is no dataset."""
    slot = inputs.slot("dataset")
    if slot is not None and slot.folder is not None:
        manifest = folder_manifest.from_folder(slot.folder)
    else:
        manifest = manifests.read(inputs.path("dataset"))
    if not len(manifest):
        raise UserError("This dataset holds no images. Add some, then start again.")
    return manifest


def open_images(context: Context[Any], manifest: Manifest, *, size: int) -> Prepared:
    """All images at `size` x `size`, prepared now if no job has done so before."""
    return prepare(
        manifest,
        blobs=context.inputs.blobs,
        root=context.inputs.prepared,
        size=size,
        progress=preparing(context.reporter, "Preparing images"),
    )


def open_masked(context: Context[SegmentSpec]) -> SegmentationData:
    """The items that have a mask in the layer to learn, split into parts. Raises UserError where they are too few."""
    spec, inputs, reporter = context.spec, context.inputs, context.reporter
    manifest = open_manifest(inputs)
    layer = layer_of(manifest, spec.mask_layer)
    chosen = [position for position, item in enumerate(manifest.items) if layer in item.masks]
    parts = split(manifest.items, chosen=chosen, rule=spec.validation, validation=spec.validation_share, seed=spec.seed)
    if not len(parts.train) or not len(parts.validation):
        raise UserError(
            f"{len(chosen)} of {len(manifest):,} images have a mask in {layer}: too few to learn from some and to "
            "validate on others. Add masks to at least 2 images, or to images of another stack."
        )
    reporter.note(
        f"{parts.sentence} {len(parts.train):,} images to learn from, {len(parts.validation):,} to validate on, "
        f"{len(parts.test):,} to test on."
    )
    where: dict[str, Any] = {"blobs": inputs.blobs, "root": inputs.prepared}
    images = prepare_whole(manifest, **where, progress=preparing(reporter, "Preparing images"))
    masks = prepare_whole_masks(manifest, layer, **where, progress=preparing(reporter, "Preparing masks"))
    squares = None
    if spec.framing == "resize":
        squares = (
            open_images(context, manifest, size=spec.image_size),
            prepare_masks(
                manifest, layer, **where, size=spec.image_size, progress=preparing(reporter, "Resizing masks")
            ),
        )
    return SegmentationData(
        manifest,
        layer=layer,
        split=parts,
        images=images,
        masks=masks,
        squares=squares,
        size=spec.image_size,
        device=context.device,
    )


def preparing(reporter: Reporter, stage: str) -> Progress:
    """Reports the progress of the preparation; raises Stopped on request, as a preparation may take long."""

    def progress(done: int, total: int) -> None:
        reporter.progress(done, total, "images", stage=stage)
        if reporter.should_stop():
            raise Stopped("Stopped while preparing the images; the next start prepares them again.")

    return progress
