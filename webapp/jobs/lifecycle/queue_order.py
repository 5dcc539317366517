"""The order in which queued jobs are claimed, and how people change it.

A job's turn is the time at which it was queued, so whoever comes first is served first. A move hands the turns that the
queued jobs hold around among them: none is lost, none doubled, and whatever is queued later still comes after all.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Literal

from django.db import transaction
from django.db.models import QuerySet

from webapp.jobs.models import Job, State
from webapp.projects.access import is_administrator, projects_edited_by
from webapp.projects.models import User

Where = Literal["up", "down", "front"]
WHERE: tuple[Where, ...] = ("up", "down", "front")

_TICK = datetime.timedelta(microseconds=1)


class MoveRefused(Exception):
    """The job stays where it is; the text is the sentence that says why."""


def queue_order() -> list[str]:
    """The order in which queued jobs are claimed; jobs of one transaction, in that in which they were submitted."""
    return ["turn", "pk"]


def queued_jobs(queue: str) -> QuerySet[Job]:
    """The queued jobs of `queue`, the next one first."""
    return Job.objects.filter(state=State.QUEUED, queue=queue).order_by(*queue_order())


def may_pass(user: User) -> Callable[[Job], bool]:
    """Past which jobs `user` may move one of theirs forward: those of projects that they edit; an administrator, any.

    Backwards, letting others go first, everybody may.
    """
    if is_administrator(user):
        return lambda job: True
    edited = set(projects_edited_by(user).values_list("pk", flat=True))
    return lambda job: job.project_id in edited


@transaction.atomic
def job_move(job: Job, *, user: User, where: Where) -> None:
    """Moves a queued job one place up or down, or as far to the front as `user` may. Raises MoveRefused.

    That `user` may change the job itself was asked at the door.
    """
    # Locked in one order, whatever the jobs' own, so that two who move at once wait for each other and never for ever.
    locked = Job.objects.select_for_update().filter(state=State.QUEUED, queue=job.queue).order_by("pk")
    line = sorted(locked, key=lambda each: (each.turn, each.pk))
    start = next((place for place, each in enumerate(line) if each.pk == job.pk), None)
    if start is None:
        raise MoveRefused(f"#{job.pk} is not in the queue any more.")
    turns = _ascending([each.turn for each in line])
    line.insert(_target(line, start, where=where, passes=may_pass(user)), line.pop(start))
    moved = [each for each, turn in zip(line, turns, strict=True) if each.turn != turn]
    for each, turn in zip(line, turns, strict=True):
        each.turn = turn
    Job.objects.bulk_update(moved, ["turn"], batch_size=500)


def _target(line: Sequence[Job], start: int, *, where: Where, passes: Callable[[Job], bool]) -> int:
    """The place in `line` that the job at `start` goes to."""
    job = line[start]
    if where == "down":
        if start == len(line) - 1:
            raise MoveRefused(f"#{job.pk} is last already.")
        return start + 1
    if start == 0:
        raise MoveRefused(f"#{job.pk} is first already.")
    if not passes(line[start - 1]):
        raise MoveRefused(
            f"#{job.pk} stays: the job before it is another project's, and only an administrator moves past it."
        )
    if where == "up":
        return start - 1
    target = start - 1
    while target and passes(line[target - 1]):
        target -= 1
    return target


def _ascending(turns: Sequence[datetime.datetime]) -> list[datetime.datetime]:
    """The turns from first to last, no two alike: those of one transaction are, and could not be exchanged."""
    found: list[datetime.datetime] = []
    for turn in turns:
        found.append(turn if not found or turn > found[-1] else found[-1] + _TICK)
    return found
