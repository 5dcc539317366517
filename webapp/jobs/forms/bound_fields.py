"""What the form of a new job shows of one field and of one input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ml_core.specs import FieldInfo, InputSlot, format_field
from webapp.jobs.forms.input_choices import Option


@dataclass(frozen=True)
class BoundField:
    """One field of the specification with what stands in it now."""

    info: FieldInfo
    value: str
    preset_value: str
    refusal: str = ""
    idle: bool = False
    """It has no effect beside the other fields and inputs."""
    taken: str = ""
    """What is shown instead where an input says the value."""
    offered: Sequence[str] = ()
    """The values that the chosen inputs have for it, where they come from there."""

    @property
    def differs(self) -> bool:
        return not self.idle and self.value != self.preset_value

    @property
    def value_text(self) -> str:
        return self._text(self.value)

    @property
    def preset_text(self) -> str:
        """The preset's value as a person reads it."""
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
        """Beside the field; not where its label says it already."""
        return "" if self.info.unit == self.info.label.lower() else self.info.unit

    @property
    def options(self) -> list[tuple[str, str]]:
        """The lines of its picker, for a field whose values come from an input; what stands in it is always one."""
        values = list(dict.fromkeys(["", *self.offered, self.value]))
        return [(value, value or self.info.words.get("", "-")) for value in values]

    @property
    def words(self) -> str:
        return json.dumps(self.info.words) if self.info.words else ""


@dataclass(frozen=True)
class BoundSlot:
    """One input with what the project has to offer for it."""

    slot: InputSlot
    options: list[Option]
    value: str
    refusal: str
    alternative: bool
    """One of several inputs of which a job takes one: choosing it empties the others."""
    idle: bool
    """The job would not look at it."""

    @property
    def name(self) -> str:
        """The picker's name in the form."""
        return slot_name(self.slot.name)


def slot_name(slot: str) -> str:
    """A slot may be called like a field, both a job's encoder: in the form they differ."""
    return f"slot-{slot}"
