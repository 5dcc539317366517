"""The fields and inputs of the new-job form, with their current values, options and labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ml_core.specs import FieldInfo, InputSlot, format_field
from webapp.jobs.forms.input_choices import Option


@dataclass(frozen=True)
class BoundField:
    """One field of the specification with its current value."""

    info: FieldInfo
    value: str
    preset_value: str
    refusal: str = ""
    idle: bool = False
    """It has no effect beside the other fields and inputs."""
    taken: str = ""
    """What is shown instead if an input sets the value."""
    offered: Sequence[str] = ()
    """The values that the chosen inputs offer for it, if its values come from an input."""

    @property
    def differs(self) -> bool:
        return not self.idle and self.value != self.preset_value

    @property
    def value_text(self) -> str:
        return self._text(self.value)

    @property
    def preset_text(self) -> str:
        """The preset's value, formatted for display."""
        return self._text(self.preset_value)

    def _text(self, text: str) -> str:
        if self.info.kind == "boolean":
            return {"True": "yes", "False": "no"}.get(text, text)
        return format_field(self.info, text or None) if text not in self.info.words else self.info.words[text]

    @property
    def limits(self) -> str:
        least, most = self.info.least, self.info.most
        if least is None or most is None or self.info.kind != "integer":
            return ""
        steps = f", in steps of {self.info.multiple:g}" if self.info.multiple else ""
        return f"{least:,.0f} to {most:,.0f}{steps}"

    @property
    def unit(self) -> str:
        """The unit shown beside the field; empty if it is the label itself."""
        return "" if self.info.unit == self.info.label.lower() else self.info.unit

    @property
    def options(self) -> list[tuple[str, str]]:
        """The options of its picker, if its values come from an input; the current value is always among them."""
        values = list(dict.fromkeys(["", *self.offered, self.value]))
        return [(value, value or self.info.words.get("", "-")) for value in values]

    @property
    def words(self) -> str:
        return json.dumps(self.info.words) if self.info.words else ""


@dataclass(frozen=True)
class BoundSlot:
    """One input with the options that the project has for it."""

    slot: InputSlot
    options: list[Option]
    value: str
    refusal: str
    alternative: bool
    """One of several inputs of which a job takes one: choosing it clears the others."""
    idle: bool
    """The job would not use it."""

    @property
    def name(self) -> str:
        """The picker's name in the form."""
        return slot_name(self.slot.name)


def slot_name(slot: str) -> str:
    """The form's name for an input: prefixed, since an input and a field may share a name, as both encoders do."""
    return f"slot-{slot}"
