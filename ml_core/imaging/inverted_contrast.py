"""Detects images with inverted contrast by comparison with other images. Imports no torch.

Stain makes membranes dark on a bright ground, and some programs write them the other way round. No single statistic
shows whether an image is inverted, but four together do, compared with images of the same stack: the mean, and the
skewness of the grey values, of fine detail and of coarser detail. Inverting an image changes the sign of each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

FIGURES = (
    "mean grey, counted from the middle of the scale",
    "skewness of the grey values",
    "skewness of the fine detail",
    "skewness of the coarser detail",
)
AT_LEAST = 8
"""Least number of images to compare: fewer have no meaningful majority."""
STRENGTH = 8.0
"""Least distance of the majority from its own inverse (squared, in deviations) for any image to be reported."""
_FLOORS = np.array([4.0, 0.08, 0.03, 0.03])
"""Lower bounds of a stack's deviations: in a very uniform stack every small difference would count as unusual."""
_DETAIL = (1, 3)
"""Radii, in pixels of the thumbnail, that bound fine detail and coarser detail."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """An image looks inverted where inverting it brings it nearer to the majority by `gain`, to within `rest` (squared
    deviations per statistic)."""

    gain: float
    rest: float


OF_A_GROUP = Bounds(gain=3.0, rest=9.0)
OF_A_DATASET = Bounds(gain=5.0, rest=4.0)
"""Stricter: stacks of different tissues differ without being inverted."""


@dataclass(frozen=True, slots=True)
class Inverted:
    """Evidence: the statistic of FIGURES that differs most, its value here and its usual value in `others` images."""

    figure: str
    here: float
    usual: float
    others: int
    group: str
    """Empty where all images were compared."""


def contrast_features(pixels: NDArray[np.uint8]) -> list[float]:
    """The four statistics of an image (H, W) uint8, a thumbnail suffices; empty for one that is nearly flat."""
    grey = np.asarray(pixels, np.float32)
    if grey.std() < 2:
        return []
    picture = Image.fromarray(pixels)
    details = [grey - np.asarray(picture.filter(ImageFilter.BoxBlur(radius)), np.float32) for radius in _DETAIL]
    figures = [float(grey.mean()) - 127.5, *(_skewness(each) for each in (grey, *details))]
    return [round(figure, 3) for figure in figures]


def inverted_among(tones: NDArray[np.float64], groups: Sequence[str]) -> dict[int, Inverted]:
    """Which images (positions) look inverted among those of their group, or among all; `tones` is (N, 4).

    Reports nothing where the majority is too near to its own inverse or has too few members.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        if group:
            members[group].append(place)
    found: dict[int, Inverted] = {}
    for group, places in members.items():
        found |= _among(tones, np.asarray(places), group=group, bounds=OF_A_GROUP)
    return _among(tones, np.arange(len(tones)), group="", bounds=OF_A_DATASET) | found


def _among(tones: NDArray[np.float64], places: NDArray[np.int64], *, group: str, bounds: Bounds) -> dict[int, Inverted]:
    if len(places) < AT_LEAST:
        return {}
    own = tones[places]
    usual = np.median(own, axis=0)
    deviation = np.maximum(1.4826 * np.median(np.abs(own - usual), axis=0), _FLOORS)
    side = usual / deviation
    if 4 * np.square(side).mean() < STRENGTH:
        return {}
    turned = np.square((own + usual) / deviation).mean(axis=1)
    gain = np.square((own - usual) / deviation).mean(axis=1) - turned
    found = np.flatnonzero((gain >= bounds.gain) & (turned <= bounds.rest))
    telling = np.argmax(-own[found] / deviation * side, axis=1)
    return {
        int(places[place]): Inverted(
            figure=FIGURES[figure],
            here=float(own[place, figure]),
            usual=float(usual[figure]),
            others=len(places) - 1,
            group=group,
        )
        for place, figure in zip(found.tolist(), telling.tolist(), strict=True)
    }


def _skewness(values: NDArray[np.float32]) -> float:
    """Third standardised moment; 0 where all values are equal."""
    centred = values - values.mean()
    squared = centred * centred
    deviation = float(np.sqrt(squared.mean()))
    return float((squared * centred).mean()) / deviation**3 if deviation > 1e-3 else 0.0
