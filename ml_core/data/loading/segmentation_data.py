"""Loads micrographs with masks for segmentation: batches for training, whole items for evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml_core.data.arrays.prepare import Prepared, Whole
from ml_core.data.loading.device_array import DeviceArray
from ml_core.data.manifests.manifest import Manifest
from ml_core.data.manifests.splits import Split
from ml_core.errors import UserError

MOST_CLASSES = 32
"""A mask with more values than this holds numbers of objects, not of classes."""

BACKGROUND = 0


def layer_of(manifest: Manifest, wanted: str) -> str:
    """The mask layer to train on: `wanted`, else the only one. Raises UserError where it is missing or ambiguous."""
    layers = manifest.layers
    if not layers:
        raise UserError(
            "No image of this dataset has a mask, so there is nothing to learn. Add masks (they pair by name), or "
            "pretrain on the images alone."
        )
    if wanted and wanted not in layers:
        raise UserError(f"This dataset has no mask layer {wanted}. It has: {', '.join(layers)}.")
    if not wanted and len(layers) > 1:
        raise UserError(f"This dataset has several mask layers: {', '.join(layers)}. Name one in the field Mask layer.")
    return wanted or layers[0]


def values_of(manifest: Manifest, layer: str) -> list[int]:
    """The values in the masks of `layer`, background (0) first. Raises UserError where they are no classes."""
    found = {int(v) for item in manifest.items if layer in item.masks for v in item.masks[layer].values}
    foreground = sorted(found - {BACKGROUND})
    if not foreground:
        raise UserError(f"All masks of {layer} are empty: nothing is marked in any image. Draw some, then start again.")
    if len(foreground) > MOST_CLASSES:
        raise UserError(
            f"The masks of {layer} hold {len(foreground)} different values, which looks like one number per object. "
            "Export them with one value per class (0 and 255 for one class)."
        )
    return [BACKGROUND, *foreground]


class SegmentationData:
    """Items of a manifest with their masks; positions index the manifest's items.

    `classes` counts the classes with background; masks hold class numbers 0..classes-1, in the order of `values`.
    With `squares` (images and masks, resized) batches are whole items; without, random crops of side `size` at full
    resolution, as many per item and epoch as cover about every pixel once.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        layer: str,
        split: Split,
        images: Whole,
        masks: Whole,
        squares: tuple[Prepared, Prepared] | None,
        size: int,
        device: torch.device,
    ) -> None:
        self.layer = layer
        self.values = values_of(manifest, layer)
        self.classes = len(self.values)
        self.train, self.validation, self.test = split.train, split.validation, split.test
        self.split = split
        self.size = size
        self._manifest = manifest
        self._images, self._masks = images, masks
        self._device = device
        self._class_of = torch.zeros(256, dtype=torch.uint8, device=device)
        self._class_of[torch.tensor(self.values, device=device)] = torch.arange(
            self.classes, dtype=torch.uint8, device=device
        )
        self._squares = None if squares is None else tuple(DeviceArray(p.array, device=device) for p in squares)
        # Each sample of an epoch: the position of the item that it shows.
        self._samples = np.repeat(self.train, [self._crops_of(p) for p in self.train.tolist()])

    @property
    def samples(self) -> int:
        """How many samples an epoch has."""
        return len(self._samples)

    def batch(self, samples: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images (B, 1, size, size) in 0..1 and classes (B, size, size) uint8 of an epoch's samples, on the device."""
        positions = self._samples[samples]
        if self._squares is not None:
            images, masks = (feed.batch(positions) for feed in self._squares)
        else:
            pairs = [self._crop(position) for position in positions.tolist()]
            images, masks = (torch.from_numpy(np.stack(side)).to(self._device) for side in zip(*pairs, strict=True))
        return images[:, None].float() / 255, self._class_of[masks.long()]

    def resized(self, positions: NDArray[np.int64]) -> Tensor:
        """Whole items (B, 1, size, size) uint8 on the device; only where batches are whole items."""
        assert self._squares is not None, "crops are predicted in tiles, not resized"
        return self._squares[0].batch(positions)[:, None]

    def grey(self, position: int) -> NDArray[np.uint8]:
        """The image at its own size, (H, W)."""
        return np.array(self._images[position])

    def truth(self, position: int, rows: slice = slice(None)) -> Tensor:
        """The mask, or the `rows` of it, at its own size as classes, (1, H, W) uint8 on the device."""
        mask = torch.from_numpy(np.array(self._masks[position][rows])).to(self._device)
        return self._class_of[mask.int()][None]

    def shape(self, position: int) -> tuple[int, int]:
        """(H, W) of the item."""
        item = self._manifest.items[position]
        return item.height, item.width

    def name(self, position: int) -> str:
        return self._manifest.items[position].name

    def group(self, position: int) -> str:
        """The stack, volume or animal that the item belongs to; an image without one is a group by itself."""
        # A space cannot begin a group's name: see `ml_core.data.manifests.splits`.
        return self._manifest.items[position].group or f" {position}"

    def source(self, position: int) -> Mapping[str, str | int]:
        """File and page of the item: facts of the artifacts that belong to it."""
        image = self._manifest.items[position].image
        return {"image": image.sha256, "page": image.page}

    def intensity_sample(self, most: int = 64) -> NDArray[np.uint8]:
        """Training images as squares (N, s, s), from which mean and standard deviation are computed."""
        chosen = self.train[np.linspace(0, len(self.train) - 1, min(most, len(self.train))).round().astype(np.int64)]
        side = min(min(self.shape(position)) for position in chosen.tolist())
        return np.stack([self._images[position][:side, :side] for position in chosen.tolist()])

    def _crops_of(self, position: int) -> int:
        """How many crops of an item an epoch holds."""
        if self._squares is not None:
            return 1
        height, width = self.shape(position)
        return max(1, round(height * width / self.size**2))

    def _crop(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The same random square of image and mask; an item smaller than a crop is padded by reflection."""
        height, width = self.shape(position)
        room = (max(height - self.size, 0), max(width - self.size, 0))
        top, left = (int(torch.randint(0, most + 1, ())) for most in room)
        window = (slice(top, top + self.size), slice(left, left + self.size))
        return self._filled(self._images[position][window]), self._filled(self._masks[position][window])

    def _filled(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        missing = [(0, self.size - length) for length in pixels.shape]
        return np.pad(pixels, missing, mode="symmetric") if any(m[1] for m in missing) else pixels
