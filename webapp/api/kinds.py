"""The kinds of job: their inputs, presets, and fields with values and rules."""

from __future__ import annotations

from typing import Any, Literal

from django.http import HttpRequest
from ninja import Router, Schema

from ml_core.specs import SPECS, FieldInfo, fields_of, from_preset, presets_of

router = Router(tags=["jobs"])


class InputOut(Schema):
    """`takes`: "revision" (a dataset's), or the kind of artifact that another job made."""

    name: str
    label: str
    takes: str
    required: bool
    help: str


class IdleOut(Schema):
    """The field has no effect where each of `fields` has one of these values, one of `given` is given (if any is
    named) and none of `absent`; where `taken`, the input that is given says the value."""

    fields: dict[str, list[str]]
    given: list[str]
    absent: list[str]
    taken: bool


class FieldOut(Schema):
    """`choices`: value -> what pages call it. `words`: what a value stands for."""

    name: str
    label: str
    unit: str
    help: str
    kind: Literal["integer", "number", "boolean", "choice", "text"]
    choices: dict[str, str]
    words: dict[str, str]
    default: Any
    least: float | None
    most: float | None
    multiple: float | None
    refusal: str
    idle: list[IdleOut]

    @staticmethod
    def resolve_choices(info: FieldInfo) -> dict[str, str]:
        return dict(info.choices)


class KindOut(Schema):
    """`presets`: name -> a whole specification, ready to be sent."""

    kind: str
    title: str
    inputs: list[InputOut]
    presets: dict[str, dict[str, Any]]
    fields: list[FieldOut]


@router.get("", response=list[KindOut])
def list_kinds(request: HttpRequest) -> object:
    """What can be asked for: every kind of job that people submit."""
    return [
        {
            "kind": kind,
            "title": spec.title,
            "inputs": spec.inputs,
            "presets": {name: from_preset(kind, name).model_dump(mode="json") for name in presets_of(kind)},
            "fields": fields_of(kind),
        }
        for kind, spec in SPECS.items()
        if presets_of(kind)
    ]
