"""Rules, as data, for when a field has no effect; the form, a job's record and the API all use them.

Nothing in this module imports torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypedDict

OWN_VALIDATION = "dataset:validation"
"""In `given`, beside the inputs, where the dataset marks its own validation images."""


class InactiveRule(TypedDict):
    """A field has no effect where all of this holds. Values are texts, as they stand in a form."""

    fields: dict[str, list[str]]
    """Other fields, each with the values of which it must have one."""
    given: list[str]
    """Inputs of which at least one must be given; no condition where it is empty."""
    absent: list[str]
    """Inputs of which none may be given."""
    taken: bool
    """Whether the input that is given decides the value instead."""


def inactive(
    *, given: Collection[str] = (), absent: Collection[str] = (), taken: bool = False, **fields: str | tuple[str, ...]
) -> InactiveRule:
    """A rule: `inactive(framing="resize")` for a field that has no effect where images are resized whole."""
    values = {name: [value] if isinstance(value, str) else list(value) for name, value in fields.items()}
    return InactiveRule(fields=values, given=list(given), absent=list(absent), taken=taken)


def is_inactive(rule: InactiveRule, *, values: Mapping[str, str], given: Collection[str]) -> bool:
    """Whether the rule's field has no effect where the other fields have `values` and the inputs are `given`."""
    if rule["given"] and not set(rule["given"]) & set(given):
        return False
    if set(rule["absent"]) & set(given):
        return False
    return all(values.get(name) in wanted for name, wanted in rule["fields"].items())
