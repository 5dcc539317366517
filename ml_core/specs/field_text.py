"""Formats a field's value: as text in a form, and for reading. Imports no torch."""

from __future__ import annotations

from ml_core.specs.fields import FieldInfo


def as_text(value: object) -> str:
    """A value as text for a form's field: 0.0003, not 3e-4."""
    return f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def format_field(info: FieldInfo, value: object) -> str:
    """A value as a person reads it: "U-Net (paper)", "1 epoch", "4,096", "off"; "-" where there is nothing.

    `value` as a specification holds it; a text that is no valid value of the field is returned unchanged.
    """
    text = "" if value is None else as_text(value)
    if text in info.words:
        return info.words[text]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if info.kind == "choice" or not text:
        return dict(info.choices).get(text, text) or "-"
    number = f"{value:,}" if isinstance(value, int) else text
    unit = info.unit_of_one if value == 1 else info.unit
    return f"{number} {unit}".strip()
