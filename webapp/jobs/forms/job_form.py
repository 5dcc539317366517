"""The form of a new job, generated from its specification: fields, pickers of inputs, presets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from django.http import QueryDict

from ml_core.specs import (
    SPECS,
    Refusal,
    Spec,
    SpecError,
    as_text,
    fields_of,
    from_preset,
    inputs_without_effect,
    load_spec,
    presets_of,
    without_effect,
)
from webapp.datasets.models import Revision
from webapp.jobs.forms.bound_fields import BoundField, BoundSlot, slot_name
from webapp.jobs.forms.input_choices import Option, options_for
from webapp.jobs.forms.number_parsing import Ambiguous, as_number
from webapp.jobs.inputs import revision_in
from webapp.jobs.models import State
from webapp.projects.models import Project

KINDS = tuple(kind for kind in SPECS if presets_of(kind))
"""The kinds that users submit, in the order of the tabs."""


class JobForm:
    """A new job of one kind in one project.

    `data` is what a user submitted; without it the preset fills the fields and the newest fitting input is chosen in
    each picker.
    """

    def __init__(
        self,
        *,
        project: Project,
        kind: str,
        preset: str = "",
        data: Mapping[str, str] | None = None,
        dataset: int | None = None,
    ) -> None:
        self.project = project
        self.kind = kind if kind in KINDS else KINDS[0]
        offered = presets_of(self.kind)
        self.preset = preset if preset in offered else offered[0]
        self.title = SPECS[self.kind].title
        self._data = data
        self._came_from = (
            set(Revision.objects.filter(dataset=dataset).values_list("pk", flat=True)) if dataset is not None else None
        )
        self.refusals: list[Refusal] = []
        """Errors in fields."""
        self.slot_refusals: list[Refusal] = []
        """Errors in inputs, and in the job as a whole."""
        self._options = {slot.name: options_for(project, slot) for slot in SPECS[self.kind].inputs}

    # --- what was sent ---

    @cached_property
    def texts(self) -> dict[str, str]:
        """The text of each field: as submitted, else the preset's value."""
        preset = self._texts(self.preset)
        return {name: self._sent(name) if self._has(name) else text for name, text in preset.items()}

    @cached_property
    def idle(self) -> dict[str, str]:
        """Fields that have no effect beside the others: name -> the input that sets the value instead, else empty."""
        return without_effect(self.kind, self.texts, given=self._given)

    def inputs(self) -> dict[str, dict[str, Any]]:
        """Slot -> reference, for the pickers that are not empty and that this job uses."""
        return {slot: o.reference for slot, o in self._chosen.items() if slot not in self._idle_slots}

    def revision(self) -> Revision | None:
        """The dataset's revision that is picked, if any."""
        return revision_in(self.inputs())

    def spec(self) -> Spec:
        """Raises SpecError. Fields that have no effect are not validated: their defaults are used."""
        try:
            return load_spec(self._raw(self.texts))
        except SpecError:
            if not self.idle:
                raise
            return load_spec(self._raw({name: text for name, text in self.texts.items() if name not in self.idle}))

    def check(self) -> Spec | None:
        """The specification, or None with `refusals` filled."""
        try:
            return self.spec()
        except SpecError as error:
            self.refusals = error.refusals
            return None

    def refuse(self, error: SpecError) -> None:
        """Stores the errors that the services found in inputs or fields, for display beside them."""
        slots = {slot.name for slot in SPECS[self.kind].inputs}
        of_fields = {info.name for info in fields_of(self.kind)} - slots
        self.refusals = [r for r in error.refusals if r.field in of_fields]
        self.slot_refusals = [r for r in error.refusals if r.field not in of_fields]

    # --- what is shown ---

    @property
    def presets(self) -> list[tuple[str, dict[str, str]]]:
        """Each preset with the text of all its fields."""
        return [(name, self._texts(name)) for name in presets_of(self.kind)]

    @cached_property
    def fields(self) -> list[BoundField]:
        preset = self._texts(self.preset)
        return [
            BoundField(
                info,
                self.texts[info.name],
                preset[info.name],
                refusal=_refusal_sentence(self.refusals, info.name),
                idle=info.name in self.idle,
                taken=self._chosen[slot].description if (slot := self.idle.get(info.name)) else "",
                offered=[v for option in self._chosen.values() for v in option.values.get(info.source, ())],
            )
            for info in fields_of(self.kind)
        ]

    @property
    def plain_fields(self) -> list[BoundField]:
        return [f for f in self.fields if not f.info.advanced]

    @property
    def advanced_fields(self) -> list[BoundField]:
        return [f for f in self.fields if f.info.advanced]

    @property
    def advanced_count(self) -> int:
        return sum(not f.idle for f in self.advanced_fields)

    @property
    def differing(self) -> list[BoundField]:
        return [f for f in self.fields if f.differs]

    @property
    def advanced_open(self) -> bool:
        return any(f.refusal or f.differs for f in self.advanced_fields)

    @property
    def slots(self) -> list[BoundSlot]:
        return [
            BoundSlot(
                slot,
                self._options[slot.name],
                self._picked(slot.name),
                _refusal_sentence(self.slot_refusals, slot.name),
                alternative=slot.name in SPECS[self.kind].one_of,
                idle=slot.name in self._idle_slots,
            )
            for slot in SPECS[self.kind].inputs
        ]

    @property
    def refused(self) -> list[tuple[str, str, str]]:
        """(id of the element, label, sentence) for the list on top; id and label are empty if there is no field."""
        fields = {f.name: f.label for f in fields_of(self.kind)}
        slots = {slot.name: slot.label for slot in SPECS[self.kind].inputs}
        rows = [(f"field-{r.field}" if r.field in fields else "", r) for r in self.refusals]
        rows += [(f"field-{slot_name(r.field)}" if r.field in slots else "", r) for r in self.slot_refusals]
        return [(where, ({**slots, **fields}[r.field] if where else ""), r.sentence) for where, r in rows]

    def labelled(self, refusals: Sequence[Refusal]) -> list[tuple[str, str]]:
        """(label of the field, sentence); the label is empty if there is no such field."""
        labels = {info.name: info.label for info in fields_of(self.kind)}
        return [(labels.get(refusal.field, ""), refusal.sentence) for refusal in refusals]

    @property
    def changed_sentence(self) -> str:
        changed = len(self.differing)
        if not changed:
            return f"as the preset {self.preset}"
        return f"{changed} field{' differs' if changed == 1 else 's differ'} from {self.preset}"

    @property
    def after_options(self) -> list[tuple[str, str]]:
        """Jobs that this one may wait for, as options."""
        open_states = [State.WAITING, State.QUEUED, State.RUNNING, State.PAUSED]
        jobs = self.project.jobs.exclude(kind="intake").filter(state__in=open_states)[:50]
        return [(str(job.pk), f"#{job.pk} {job.name}") for job in jobs]

    @property
    def after_value(self) -> str:
        return self._sent("after")

    @property
    def name(self) -> str:
        return self._sent("name")

    def _texts(self, preset: str) -> dict[str, str]:
        spec = from_preset(self.kind, preset)
        return {f.name: as_text(getattr(spec, f.name)) for f in fields_of(self.kind)}

    def _raw(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """The specification from `texts`, with values from inputs where these set them; `load_spec` validates it later.

        Raises SpecError for numbers that can be read in two ways.
        """
        read, refused = {}, []
        for info in fields_of(self.kind):
            if info.name in texts:
                try:
                    read[info.name] = as_number(texts[info.name].strip(), kind=info.kind)
                except Ambiguous as error:
                    refused.append(Refusal(info.name, str(error)))
        if refused:
            raise SpecError(refused)
        said = {name: self._chosen[slot].architecture for name, slot in self.idle.items() if slot}
        read |= {name: architecture for name, architecture in said.items() if architecture}
        return {"kind": self.kind, "version": 1, "preset": self.preset, **read}

    @cached_property
    def _chosen(self) -> dict[str, Option]:
        found = {
            slot: next((o for o in options if o.value and o.value == self._picked(slot)), None)
            for slot, options in self._options.items()
        }
        return {slot: option for slot, option in found.items() if option}

    @property
    def _given(self) -> set[str]:
        """The inputs that are chosen, and what else they provide."""
        return {*self._chosen, *(fact for option in self._chosen.values() for fact in option.gives)}

    @property
    def idle_json(self) -> str:
        """Fields without effect, as JSON for the page: id of the element -> the source of its value, else empty."""
        found = {f"field-{field.info.name}": field.taken for field in self.fields if field.idle}
        return json.dumps(found | {f"field-{slot_name(slot)}": "" for slot in self._idle_slots})

    @cached_property
    def _idle_slots(self) -> set[str]:
        return inputs_without_effect(self.kind, self.texts, given=self._given)

    def _has(self, name: str) -> bool:
        return self._data is not None and name in self._data

    def _sent(self, name: str) -> str:
        return str(self._data[name]) if self._data is not None and name in self._data else ""

    def _picked(self, slot: str) -> str:
        if self._has(slot_name(slot)):
            return self._sent(slot_name(slot))
        if any(self._default(other) for other in self._before(slot)):
            return ""
        return self._default(slot)

    def _default(self, slot: str) -> str:
        """The option that the form preselects; empty if there is none."""
        return next((o.value for o in self._options[slot] if o.default and self._fits(slot, o)), "")

    def _before(self, slot: str) -> Sequence[str]:
        """The alternatives to this input that are listed before it: one of them is preselected rather than this."""
        alternatives = SPECS[self.kind].one_of
        return alternatives[: alternatives.index(slot)] if slot in alternatives else ()

    def _fits(self, slot: str, option: Option) -> bool:
        """A dataset must be the one that the user came from; colour planes must belong to the chosen revision."""
        if slot == "dataset":
            return self._came_from is None or option.revision in self._came_from
        return slot != "colour" or option.revision == self._revision_picked()

    def _revision_picked(self) -> int | None:
        picked = self._picked("dataset")
        return next((o.revision for o in self._options["dataset"] if o.value == picked), None)


def _refusal_sentence(refusals: list[Refusal], name: str) -> str:
    return next((r.sentence for r in refusals if r.field == name), "")


def form_data(spec: Mapping[str, Any], inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The form's values that reproduce a job's specification and inputs, for cloning it."""
    data = {name: as_text(value) for name, value in spec.items()}
    for slot, reference in inputs.items():
        if "revision" in reference:
            data[slot_name(slot)] = f"revision-{reference['revision']}"
        elif "job" in reference:
            data[slot_name(slot)] = f"job-{reference['job']}-{reference['artifact']}"
    return data


def sent(post: QueryDict) -> dict[str, str]:
    """The last value of each field, without null characters, which the database rejects."""
    return {key: value.replace("\0", "") for key, value in post.items() if isinstance(value, str)}
