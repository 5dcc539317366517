"""What the doctor of a dataset finds before any time on a device is spent, and which values of a mask are classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = {
    "unpaired": "Images without a mask, while others have one",
    "empty_mask": "Masks with nothing in them",
    "unknown_values": "Masks with values that no class uses",
    "size_mismatch": "Masks of another size than their image",
    "constant": "Images of one single grey value",
    "duplicate": "Images that are in the dataset twice",
    "inverted": "Images that look inverted beside the others",
    "colour": "Colour pictures",
}
"""Kind of problem -> its heading."""


def problem(kind: str, text: str) -> dict[str, str]:
    return {"kind": kind, "text": text}


def image_problems(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """The problems of one image, from its facts of the intake."""
    found = []
    if facts.get("constant"):
        found.append(problem("constant", "All pixels have the same value: there is nothing to see in it."))
    if facts.get("colour"):
        found.append(problem("colour", "A colour picture: its lightness is used."))
    if facts.get("duplicate_of"):
        found.append(problem("duplicate", f"The same image is in the dataset as {facts['duplicate_of']}."))
    return found


def mask_problems(masks: Mapping[str, Mapping[str, Any]], *, classes: Mapping[str, Any]) -> list[dict[str, str]]:
    """Of one item's masks, by layer."""
    found = []
    for layer, mask in masks.items():
        values = [value for value in mask["values"] if value != "0"]
        if not values and not mask.get("nothing"):
            found.append(problem("empty_mask", f"Layer {layer}: the mask marks nothing."))
        unknown = sorted((v for v in values if v not in classes.get(layer, {})), key=int)
        if unknown:
            word = "value" if len(unknown) == 1 else "values"
            shown = ", ".join(unknown[:8])
            found.append(problem("unknown_values", f"The mask {layer} holds the {word} {shown}, which no class uses."))
    return found
