"""The order in which queued jobs are claimed, and how users change it.

Jobs are ordered by `turn`, at first the time at which they were queued. A move exchanges the turns of queued jobs: the
set of turns stays the same, so jobs that are queued later still come after all of them.
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
    """The job cannot be moved; the text is the reason, for the user."""


def queue_order() -> list[str]:
    """The fields that order queued jobs; jobs of one transaction are ordered by their submission."""
    return ["turn", "pk"]


def queued_jobs(queue: str) -> QuerySet[Job]:
    """The queued jobs of `queue`, in the order in which they are claimed."""
    return Job.objects.filter(state=State.QUEUED, queue=queue).order_by(*queue_order())


def may_pass(user: User) -> Callable[[Job], bool]:
    """Which jobs `user` may move one of theirs ahead of: those of projects that they edit; for an administrator, all.

    Moving a job back, which lets others go first, needs no such right.
    """
    if is_administrator(user):
        return lambda job: True
    edited = set(projects_edited_by(user).values_list("pk", flat=True))
    return lambda job: job.project_id in edited


@transaction.atomic
def job_move(job: Job, *, user: User, where: Where) -> None:
    """Moves a queued job one position up or down, or as far to the front as `user` may. Raises MoveRefused.

    The caller has checked that `user` may change the job itself.
    """
    # Locked in the order of ids, not of the queue, so that two concurrent moves cannot deadlock.
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
    """The position in `line` that the job at `start` moves to."""
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
    """The turns in ascending order, made distinct: jobs of one transaction share a turn, and could not be swapped."""
    found: list[datetime.datetime] = []
    for turn in turns:
        found.append(turn if not found or turn > found[-1] else found[-1] + _TICK)
    return found
