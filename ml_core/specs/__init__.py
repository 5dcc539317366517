"""The specifications of jobs: one frozen pydantic model per kind of job, and their presets.

The form, the API, the command line and the trainer validate with these same models. Every field has what a
form needs to render it (label, unit, help, group, whether it is advanced) and its error message. Each kind has a file
of its own here. Nothing in this package imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError

from ml_core.specs import cam, classify, colorize, fields, pretrain, segment, train_colorizer
from ml_core.specs.cam import CamSpec
from ml_core.specs.classify import ClassifySpec
from ml_core.specs.colorize import ColorizeSpec
from ml_core.specs.field_text import as_text, format_field
from ml_core.specs.fields import CURRENT_VERSION, FieldInfo, InputSlot, Presets, Refusal, Spec, SpecError, TrainingSpec
from ml_core.specs.inactive_fields import is_inactive
from ml_core.specs.intake import IntakeSpec
from ml_core.specs.pretrain import PretrainSpec
from ml_core.specs.segment import SegmentSpec
from ml_core.specs.train_colorizer import TrainColorizerSpec

__all__ = [
    "CURRENT_VERSION",
    "PRESETS",
    "SPECS",
    "CamSpec",
    "ClassifySpec",
    "ColorizeSpec",
    "FieldInfo",
    "InputSlot",
    "IntakeSpec",
    "PretrainSpec",
    "Refusal",
    "SegmentSpec",
    "Spec",
    "SpecError",
    "TrainColorizerSpec",
    "TrainingSpec",
    "as_text",
    "differences",
    "fields_of",
    "format_field",
    "from_preset",
    "inputs_without_effect",
    "load_spec",
    "presets_of",
    "without_effect",
]

SPECS: dict[str, type[Spec]] = {
    "colorize": ColorizeSpec,
    "pretrain": PretrainSpec,
    "segment": SegmentSpec,
    "classify": ClassifySpec,
    "cam": CamSpec,
    "train_colorizer": TrainColorizerSpec,
    "intake": IntakeSpec,
}

PRESETS: dict[str, Presets] = {
    "colorize": colorize.PRESETS,
    "pretrain": pretrain.PRESETS,
    "segment": segment.PRESETS,
    "classify": classify.PRESETS,
    "cam": cam.PRESETS,
    "train_colorizer": train_colorizer.PRESETS,
}

# One function per step: takes the raw mapping of version n of a kind, returns that of version n + 1.
_UPGRADES: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}


def presets_of(kind: str) -> tuple[str, ...]:
    """The names of the presets of `kind`, in the order in which a form offers them."""
    return tuple(PRESETS.get(kind, {}))


def from_preset(kind: str, preset: str, /, **changes: Any) -> Spec:
    """The specification of `kind` with the values of `preset`, and `changes` on top. Raises SpecError."""
    if preset not in PRESETS.get(kind, {}):
        names = ", ".join(presets_of(kind)) or "none"
        raise SpecError([Refusal("preset", f"There is no preset {preset} for {kind}; there are: {names}.")])
    return load_spec({"kind": kind, "version": CURRENT_VERSION, "preset": preset, **PRESETS[kind][preset], **changes})


def differences(spec: Spec) -> dict[str, tuple[Any, Any]]:
    """The fields in which `spec` differs from its preset: name -> (preset's value, own value)."""
    if spec.preset not in PRESETS.get(spec.kind, {}):
        return {}
    base = from_preset(spec.kind, spec.preset)
    names = type(spec).model_fields
    return {n: (getattr(base, n), getattr(spec, n)) for n in names if getattr(base, n) != getattr(spec, n)}


def load_spec(raw: Mapping[str, Any]) -> Spec:
    """Validates `raw` (parsed JSON), bringing an older version up to date first. Raises SpecError."""
    data = dict(raw)
    kind = data.get("kind")
    if kind not in SPECS:
        raise SpecError([Refusal("kind", f"There is no kind of job called {kind!r}; there are: {', '.join(SPECS)}.")])
    version = data.get("version", CURRENT_VERSION)
    if not isinstance(version, int) or not 1 <= version <= CURRENT_VERSION:
        raise SpecError(
            [Refusal("version", f"Version {version!r} is unknown here; this server reads 1 to {CURRENT_VERSION}.")]
        )
    while version < CURRENT_VERSION:
        data = _UPGRADES[kind, version](data)
        version += 1
        data["version"] = version
    try:
        return SPECS[kind].model_validate(data)
    except ValidationError as error:
        raise SpecError(fields.refusals_of(SPECS[kind], error)) from error


def fields_of(kind: str) -> list[FieldInfo]:
    """The fields of `kind` in the order of the form, without those that every specification has by itself."""
    return fields.describe(SPECS[kind])


def without_effect(kind: str, values: Mapping[str, Any], *, given: Collection[str]) -> dict[str, str]:
    """The fields of `kind` that have no effect beside the others: name -> the input that decides its value, else "".

    `values` of fields, as a specification or a form holds them; `given` as `InactiveRule` has it.
    """
    found: dict[str, str] = {}
    counted: dict[str, str] = {}
    for info in fields_of(kind):
        rule = next((rule for rule in info.idle if is_inactive(rule, values=counted, given=given)), None)
        if rule is None:
            # The value of a field without effect is not counted: rules refer to fields further up.
            counted[info.name] = as_text(values.get(info.name, ""))
        else:
            found[info.name] = next((slot for slot in rule["given"] if slot in given), "") if rule["taken"] else ""
    return found


def inputs_without_effect(kind: str, values: Mapping[str, Any], *, given: Collection[str]) -> set[str]:
    """The inputs of `kind` that a job with such fields would not use."""
    texts = {name: as_text(value) for name, value in values.items()}
    return {
        slot.name for slot in SPECS[kind].inputs if any(is_inactive(r, values=texts, given=given) for r in slot.idle)
    }
