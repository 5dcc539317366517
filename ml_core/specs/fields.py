"""Shared by the specifications of all kinds: descriptions of fields, refusals, the common fields.

Nothing in this module imports torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml_core.specs.inactive_fields import InactiveRule

CURRENT_VERSION = 1

Presets = Mapping[str, Mapping[str, Any]]
"""By name, in the order in which a form offers them: only what differs from the model's defaults, which are the paper's
wherever the paper has a value."""


class SpecError(ValueError):
    """A specification that cannot be used. `refusals` holds one sentence per field at fault."""

    def __init__(self, refusals: list[Refusal]) -> None:
        super().__init__(" ".join(str(r) for r in refusals))
        self.refusals = refusals


@dataclass(frozen=True)
class Refusal:
    """Why one field was refused; `field` is empty when the fault lies in the whole specification."""

    field: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.field}: {self.sentence}" if self.field else self.sentence


@dataclass(frozen=True)
class InputSlot:
    """Something a job takes from elsewhere. A picker in the form, an entry of `Job.inputs`, a key of `inputs.json`.

    `takes` is "revision" (a dataset) or the name of an artifact kind that another job made ("encoder", "colour",
    "segmenter"), or "upload".
    """

    name: str
    label: str
    takes: str
    required: bool = True
    help: str = ""
    photographs: bool = False
    """Whether the dataset contains colour photographs instead of micrographs."""
    idle: tuple[InactiveRule, ...] = ()
    """Where the job would not use this input: any of these rules."""


DATASET = InputSlot("dataset", "Dataset", "revision")


@dataclass(frozen=True)
class FieldInfo:
    """All that a form, a table or the command line's help says about one field."""

    name: str
    label: str
    unit: str
    unit_of_one: str
    """The unit after 1: "epoch" where `unit` is "epochs"."""
    words: Mapping[str, str]
    """Texts for values with a special meaning (0 threads: as many as the machine has), by the value's text."""
    help: str
    group: str
    advanced: bool
    kind: Literal["integer", "number", "boolean", "choice", "text"]
    choices: tuple[tuple[str, str], ...]
    default: Any
    optional: bool
    least: float | None
    most: float | None
    multiple: float | None
    """The number that its values are multiples of."""
    refusal: str
    idle: tuple[InactiveRule, ...]
    """Where the field has no effect: any of these rules."""
    source: str
    """The property of the inputs that its values come from ("mask layers", "classes"); empty for a field with values
    of its own."""


def field(
    default: Any,
    label: str,
    *,
    refusal: str,
    unit: str = "",
    unit_of_one: str = "",
    words: Mapping[str, str] | None = None,
    help: str = "",
    group: str = "Training",
    advanced: bool = False,
    choices: Mapping[str, str] | None = None,
    idle: Sequence[InactiveRule] = (),
    source: str = "",
    **limits: Any,
) -> Any:
    extra: dict[str, Any] = {
        "label": label,
        "unit": unit,
        "unit_of_one": unit_of_one or unit,
        "words": dict(words or {}),
        "help": help,
        "group": group,
        "advanced": advanced,
        "refusal": refusal,
        "choices": dict(choices or {}),
        "idle": list(idle),
        "source": source,
    }
    return Field(default, json_schema_extra=extra, **limits)


class Spec(BaseModel):
    """The part that all kinds share. An unknown field is an error: a misspelt one must never be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    title: ClassVar[str] = ""
    verb: ClassVar[str] = ""
    inputs: ClassVar[tuple[InputSlot, ...]] = ()
    one_of: ClassVar[tuple[str, ...]] = ()
    """Inputs of which a job takes one; a form that chooses by itself takes the first for which there is something."""
    makes: ClassVar[tuple[str, ...]] = ()
    """The kinds of artifact that other jobs may take from this one."""
    needs_torch: ClassVar[bool] = True

    version: Literal[1] = 1
    kind: str
    preset: Literal["paper", "recommended", "quick", "own"] = "own"
    """The preset that the form started from; the page shows which fields differ from it."""

    seed: int = field(
        0,
        "Seed",
        help="The same seed, inputs and machine give the same run.",
        group="Run",
        advanced=True,
        ge=0,
        le=2**31 - 1,
        refusal="The seed is a whole number from 0 to 2,147,483,647.",
    )

    def lacking(self, given: Collection[str]) -> list[Refusal]:
        """One refusal per input that this specification needs and that is not among the slots in `given`."""
        return [Refusal(s.name, f"Choose: {s.label}.") for s in self.inputs if s.required and s.name not in given]


class TrainingSpec(Spec):
    """What every kind that trains a network by steps shares."""

    checkpoint_seconds: int = field(
        30,
        "Checkpoint every",
        unit="s",
        help="At most this much work is lost when a machine dies.",
        group="Run",
        advanced=True,
        ge=1,
        le=3600,
        refusal="A checkpoint every 1 to 3,600 seconds.",
    )
    points_every: int = field(
        5,
        "A point every",
        unit="steps",
        unit_of_one="step",
        help="Each point holds the mean, least and greatest of its steps.",
        group="Run",
        advanced=True,
        ge=1,
        le=10_000,
        refusal="A point every 1 to 10,000 steps.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = field(
        "auto",
        "Precision",
        help="Automatic takes bfloat16 where the device computes it in hardware, else float32.",
        group="Run",
        advanced=True,
        choices={"auto": "Automatic", "float32": "float32", "bfloat16": "bfloat16"},
        refusal="Choose auto, float32 or bfloat16.",
    )
    threads: int = field(
        0,
        "CPU threads",
        words={"0": "as many as the machine has"},
        help="0 takes all cores. The number is kept in the checkpoint, as it changes the last bits of sums.",
        group="Run",
        advanced=True,
        ge=0,
        le=512,
        refusal="0 (all cores) to 512 threads.",
    )


def refusals_of(model: type[Spec], error: ValidationError) -> list[Refusal]:
    found: dict[str, str] = {}
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        if name in model.model_fields and item["type"] == "value_error":
            # A validator of the model itself has its own message on how the field conflicts with others.
            found.setdefault(name, str(item["msg"]).removeprefix("Value error, "))
        elif name in model.model_fields:
            extra = model.model_fields[name].json_schema_extra
            sentence = str(extra.get("refusal", "")) if isinstance(extra, dict) else ""
            found.setdefault(name, sentence or f"{item['msg']}.")
        elif item["type"] == "extra_forbidden":
            found.setdefault(name, f"{model.title} has no field of this name. Remove it, or correct its spelling.")
        else:
            found.setdefault(name, str(item["msg"]).removeprefix("Value error, "))
    return [Refusal(name, sentence) for name, sentence in found.items()]


def describe(model: type[Spec]) -> list[FieldInfo]:
    """The fields of `model` in the order of the form, without those that every specification has by itself."""
    result = []
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if not isinstance(extra, dict) or "label" not in extra:
            continue
        annotation = field.annotation
        limits = {type(m).__name__: m for m in field.metadata}
        least = next((float(getattr(limits[k], a)) for k, a in (("Ge", "ge"), ("Gt", "gt")) if k in limits), None)
        most = next((float(getattr(limits[k], a)) for k, a in (("Le", "le"), ("Lt", "lt")) if k in limits), None)
        multiple = getattr(limits.get("MultipleOf"), "multiple_of", None)
        labels, words = extra["choices"], extra["words"]
        assert isinstance(labels, dict)
        assert isinstance(words, dict)
        if get_origin(annotation) is Literal:
            shape = "choice"
            choices = tuple((str(v), str(labels.get(str(v), v))) for v in get_args(annotation))
        else:
            shape = {bool: "boolean", int: "integer", float: "number"}.get(annotation, "text")  # type: ignore[arg-type]
            choices = ()
        result.append(
            FieldInfo(
                name=name,
                label=str(extra["label"]),
                unit=str(extra["unit"]),
                unit_of_one=str(extra["unit_of_one"]),
                words={text: str(word) for text, word in words.items()},
                help=str(extra["help"]),
                group=str(extra["group"]),
                advanced=bool(extra["advanced"]),
                kind=shape,  # type: ignore[arg-type]
                choices=choices,
                default=field.default,
                optional=False,
                least=least,
                most=most,
                multiple=multiple,
                refusal=str(extra["refusal"]),
                idle=tuple(extra["idle"]),  # type: ignore[arg-type]
                source=str(extra["source"]),
            )
        )
    return result
