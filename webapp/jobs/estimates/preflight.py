"""Checks a job before it is queued: memory, duration, start time, and problems in its data."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.urls import reverse
from django.utils import timezone

from ml_core.specs import ClassifySpec, PretrainSpec, SegmentSpec, Spec
from webapp.datasets.models import Revision
from webapp.datasets.queries.counts import masked_images
from webapp.datasets.queries.mask_counts import unknown_values
from webapp.jobs.estimates.duration import FORETOLD, seconds_like, similar_run, starts
from webapp.jobs.estimates.memory import Room, batch_that_fits, gib, need_on, room_of
from webapp.jobs.inputs import jobs_taken_from
from webapp.jobs.job_kinds import KINDS
from webapp.jobs.lifecycle import heartbeats
from webapp.jobs.lifecycle.queue_order import queued_jobs
from webapp.jobs.models import OWNED, Job, Queue, State
from webapp.projects.models import Project


@dataclass(frozen=True)
class Warned:
    """A problem, described in whole sentences, with a link to its object where there is one."""

    sentence: str
    link: str = ""
    words: str = ""


@dataclass
class Preflight:
    """`memory` in bytes, `seconds` and `start` are None where they cannot be estimated.

    `room`: the device with the most memory. `batch`: if memory is too little, the largest batch size that fits; 0 if
    none does.
    """

    memory: float | None = None
    room: Room | None = None
    batch: int = 0
    too_much: str = ""
    """The sentence that reports too little memory; empty if the memory suffices or is unknown."""
    seconds: float | None = None
    judged_by: Job | None = None
    ahead: int = 0
    idle: bool = False
    """Whether a device is free for it now."""
    start: datetime.datetime | None = None
    follows: list[Job] = field(default_factory=list)
    """Jobs whose artifacts are its inputs and that are not done yet."""
    warnings: list[Warned] = field(default_factory=list)

    @property
    def fits(self) -> bool | None:
        """Whether the memory suffices; None if unknown."""
        if self.memory is None or self.room is None:
            return None
        return self.memory <= self.room.free

    @property
    def memory_words(self) -> str:
        """ "about 9.4 of 11.2 GiB free on GPU 0"; empty if the memory needed is unknown."""
        if self.memory is None:
            return ""
        if self.room is None or not self.fits:
            return f"about {gib(self.memory)} GiB"
        return f"about {gib(self.memory)} of {self.room.words} on {self.room.device}"


def preflight(spec: Spec, *, project: Project, revision: Revision | None, inputs: dict[str, Any]) -> Preflight:
    workers, queue = heartbeats.workers(), KINDS[spec.kind].queue
    running = list(Job.objects.filter(queue=queue, state__in=OWNED))
    found = Preflight()
    if queue == Queue.DEVICE:
        busy = {(job.worker.rpartition(":")[0], job.device) for job in running}
        found.room = room_of(workers, busy=busy)
        run = _as_it_runs(spec, inputs)
        found.memory = need_on(found.room, run)
        if found.room and found.memory is not None and not found.fits:
            found.batch = batch_that_fits(run, found.room)
            found.too_much = _too_much(run, need=found.memory, room=found.room, batch=found.batch)
    _place(found, queue, running=running, slots=heartbeats.slots_of(queue, workers))
    found.follows = list(project.jobs.filter(pk__in=jobs_taken_from(inputs)).exclude(state=State.DONE))
    if revision:
        found.judged_by = similar_run(spec, project)
        if found.judged_by:
            found.seconds = seconds_like(spec, revision, found.judged_by)
        found.warnings = list(_warnings(spec, revision, inputs))
    return found


def _as_it_runs(spec: Spec, inputs: Mapping[str, Any]) -> Spec:
    """Without any pretrained encoder a segmentation trains its encoder too, from random values, despite `weights`."""
    if isinstance(spec, SegmentSpec) and "encoder" not in inputs and spec.initial == "random":
        return spec.model_copy(update={"weights": "fine-tuned"})
    return spec


def _too_much(spec: Spec, *, need: float, room: Room, batch: int) -> str:
    given = spec.model_dump()
    size = given["image_size"]
    says = f"Batch {given['batch_size']:,} of {size:,} x {size:,} px needs about {gib(need)} GiB; {room.device} has "
    return f"{says}{room.words}." + ("" if batch else " No batch of images of this size fits: use smaller images.")


def _place(found: Preflight, queue: Queue, *, running: Sequence[Job], slots: int) -> None:
    """Sets its position behind all jobs that are queued now, and its estimated start time."""
    line = list(queued_jobs(queue))
    found.ahead = len(line) + len(running)
    found.idle = not line and len(running) < slots
    if len(line) <= FORETOLD:
        last = Job(pk=0, spec={})  # a placeholder for the new job: only its position counts
        found.start = starts([*line, last], running, slots=slots, now=timezone.now()).get(last.pk)


def _warnings(spec: Spec, revision: Revision, inputs: Mapping[str, Any]) -> Iterator[Warned]:
    name = revision.dataset.name
    if isinstance(spec, SegmentSpec):
        if not masked_images(revision):
            yield Warned(f"{name} has no masks at this revision, so there is nothing to learn from. Add masks first.")
        yield from _unknown_values(spec, revision)
        if spec.validation == "random":
            yield Warned(
                "Validation images are drawn at random: neighbouring slices of a stack are then in both parts, and "
                "scores come out too high. The paper did so; choose the dataset's split for a fair score."
            )
    if isinstance(spec, SegmentSpec | ClassifySpec) and "random" not in (
        getattr(spec, "validation", ""),
        getattr(spec, "split", ""),
    ):
        yield from _leaks(revision)
    if isinstance(spec, PretrainSpec):
        if spec.views != "byol" and "colour" not in inputs:
            yield Warned("Grey against colour needs the colour planes of a colorize job. Colorize first.")
        if spec.batch_size > revision.items_count:
            yield Warned(f"A batch of {spec.batch_size:,} is more than the {revision.items_count:,} images of {name}.")


def _unknown_values(spec: SegmentSpec, revision: Revision) -> Iterator[Warned]:
    """Values in the training masks that belong to no class: each would be learned as a class."""
    for unknown in unknown_values(revision):
        if spec.mask_layer in ("", unknown.layer):
            masks = "1 mask holds" if unknown.count == 1 else f"{intcomma(unknown.count)} masks hold"
            yield Warned(
                f"{masks} the value {unknown.value}, which no class uses, and which would be learned as one. Name "
                f"class {unknown.value}, or count it as background.",
                reverse("dataset", args=[revision.dataset_id]) + "?problem=unknown_values",
                "Show it" if unknown.count == 1 else f"Show the {intcomma(unknown.count)}",
            )


def _leaks(revision: Revision) -> Iterator[Warned]:
    """Images in different parts of the split that are nearly identical, as the dataset's doctor reports them."""
    for leak in revision.summary.get("leaks", []):
        yield Warned(leak["sentence"], reverse("dataset", args=[revision.dataset_id]) + "?tab=splits", "See the split")
