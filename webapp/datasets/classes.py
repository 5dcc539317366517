"""The classes of a mask layer: which values are classes, their names and colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

CLASS_COLOURS = ("#56B4E9", "#F0E442", "#0072B2", "#E69F00")
"""By Okabe and Ito, without the green and the pink, which some people cannot tell from grey, and without the
vermilion, which belongs to predictions."""


RARE = 0.1
"""A value that is in fewer of a layer's masks than this share is taken for a slip of the hand, not for a class."""


def classes_of(masks: Iterable[Mapping[str, Any]], *, name: str) -> dict[str, dict[str, str]]:
    """The classes that a layer's masks show: value -> name and colour. 0 is the background."""
    counts: Counter[str] = Counter()
    total = 0
    for mask in masks:
        total += 1
        counts.update(value for value in mask["values"] if value != "0")
    values = sorted((v for v, n in counts.items() if n >= RARE * total), key=int)
    if len(values) == 1:
        return {values[0]: {"name": name, "colour": CLASS_COLOURS[0]}}
    return {
        value: {"name": f"{name} {value}", "colour": CLASS_COLOURS[n % len(CLASS_COLOURS)]}
        for n, value in enumerate(values)
    }
