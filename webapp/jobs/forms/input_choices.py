"""Lists the options for one input of a job: revisions of datasets, and artifacts of other jobs in the project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Case, When

from ml_core.specs import SPECS, InputSlot
from ml_core.specs.architectures import ENCODERS
from webapp.datasets.models import Dataset, Revision
from webapp.jobs.inputs import dataset_provides
from webapp.jobs.models import Artifact, Job, State
from webapp.projects.models import Project

_MOST = 200
_OPEN = [State.WAITING, State.QUEUED, State.RUNNING, State.STOPPING, State.PAUSED]

CHOSEN_BY_ITSELF = {"revision", "colour", "encoder", "segmenter", "classifier"}
"""Inputs for which the newest is the usual choice. Not the encoder that a pretraining starts from."""


@dataclass(frozen=True)
class Option:
    """One option of a picker. `reference` is what goes into `Job.inputs`."""

    value: str
    label: str
    reference: dict[str, Any]
    revision: int | None
    """The dataset's revision that it is, or that it was computed from."""
    default: bool
    """Whether the form may preselect it."""
    gives: tuple[str, ...] = ()
    """What it provides beside itself, as rules of fields without effect name it."""
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The values that it has for fields whose values come from the inputs, by `FieldInfo.source`."""

    architecture: str = ""
    """The architecture of its network, if known: fields that ask for one take it from here."""

    @property
    def description(self) -> str:
        """What a field shows when its value comes from this option."""
        if self.architecture in ENCODERS:
            return f"{ENCODERS[self.architecture]}, taken from {self.label}."
        return f"Taken from {self.label}."

    @property
    def values_json(self) -> str:
        return json.dumps(self.values)


def options_for(project: Project, slot: InputSlot) -> list[Option]:
    """The options for `slot`, newest first."""
    by_itself = slot.takes in CHOSEN_BY_ITSELF and slot.name != "start"
    if slot.takes == "revision":
        return _revisions(project, slot, by_itself)
    return _made_by_jobs(project, slot.takes, by_itself)


def _revisions(project: Project, slot: InputSlot, by_itself: bool) -> list[Option]:
    """Natural photographs come first for jobs that are meant for them, and are left out for all others."""
    found = Revision.objects.filter(dataset__project=project, items_count__gt=0).select_related("dataset")
    if not slot.photographs:
        found = found.exclude(dataset__kind=Dataset.Kind.PHOTOGRAPHS)
    meant = Case(When(dataset__kind=Dataset.Kind.PHOTOGRAPHS, then=0), default=1)
    seen: set[int] = set()
    options = []
    for revision in found.order_by(meant, "-created_at", "-number")[:_MOST]:
        newest = revision.dataset_id not in seen
        seen.add(revision.dataset_id)
        options.append(
            Option(
                value=f"revision-{revision.pk}",
                label=f"{revision.dataset.name} · rev {revision.short_name} · {revision.items_count:,} images"
                + ("" if newest else " (older)"),
                reference={"revision": revision.pk},
                revision=revision.pk,
                default=newest and by_itself,
                gives=dataset_provides(revision),
                values={"mask layers": sorted(revision.summary.get("masks", {}))},
            )
        )
    return options


def _made_by_jobs(project: Project, kind: str, by_itself: bool) -> list[Option]:
    makers = [name for name, spec in SPECS.items() if kind in spec.makes]
    jobs = project.jobs.filter(kind__in=makers, state__in=[State.DONE, *_OPEN])[:_MOST]
    made = dict(Artifact.objects.filter(job__in=list(jobs), kind=kind).values_list("job_id", "facts"))
    return [
        Option(
            value=f"job-{job.pk}-{kind}",
            label=f"#{job.pk} {job.name}" + _state_text(job),
            reference={"job": job.pk, "artifact": kind},
            revision=job.inputs.get("dataset", {}).get("revision"),
            default=by_itself and job.state != State.PAUSED,
            values={"classes": _classes(made.get(job.pk, {}), kind=kind)},
            architecture=_architecture(job, made.get(job.pk, {})),
        )
        for job in jobs
    ]


def _classes(facts: Mapping[str, Any], *, kind: str) -> list[str]:
    """The classes of a model that an activation map may be computed for; a segmenter's first is the background."""
    return [str(name) for name in facts.get("classes", ())][kind == "segmenter" :]


def _architecture(job: Job, facts: Mapping[str, Any]) -> str:
    """From the artifact once it is made; before that from the specification, unless an encoder determines it."""
    asked = "" if "encoder" in job.inputs else job.spec.get("encoder", "")
    return str(facts.get("architecture", asked))


def _state_text(job: Job) -> str:
    if job.state == State.DONE:
        return ""
    return f" ({job.get_state_display().lower()}; this job will wait for it)"
