"""Who comes next in the queue, and who may change that."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.counting import make_revision, pretrain
from webapp.datasets.models import Revision
from webapp.jobs.lifecycle.leases import job_claim
from webapp.jobs.lifecycle.queue_order import MoveRefused, Where, job_move, queued_jobs
from webapp.jobs.lifecycle.transitions import job_transition
from webapp.jobs.models import Job, State
from webapp.projects.models import Membership, Project, Role, User


@pytest.fixture
def revision(project: Project) -> Revision:
    return make_revision(project)


@pytest.fixture
def theirs(db: None) -> Revision:
    """Another group's project."""
    return make_revision(Project.objects.create(name="Liver"), "Liver")


@pytest.fixture
def admin(db: None) -> User:
    """Looks after the server and is a member of nothing."""
    return User.objects.create_superuser("admin", "admin@example.org", "a long enough passphrase")


def line() -> list[str]:
    return list(queued_jobs("device").values_list("name", flat=True))


def queue(*names: str, of: Revision) -> dict[str, Job]:
    return {name: pretrain(of, name=name) for name in names}


def test_who_comes_first_is_served_first(revision: Revision) -> None:
    queue("a", "b", "c", of=revision)
    claimed = [job_claim("device", worker="w", device="cpu") for _ in range(3)]
    assert [job.name for job in claimed if job] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "where", "after"),
    [("c", "up", "acbd"), ("b", "down", "acbd"), ("d", "front", "dabc"), ("a", "down", "bacd"), ("b", "up", "bacd")],
)
def test_a_move_changes_the_order_in_which_jobs_are_claimed(
    revision: Revision, bob: User, name: str, where: Where, after: str
) -> None:
    jobs = queue(*"abcd", of=revision)
    job_move(jobs[name], user=bob, where=where)
    assert "".join(line()) == after
    claimed = job_claim("device", worker="w", device="cpu")
    assert claimed
    assert claimed.name == after[0]
    pretrain(revision, name="z")
    assert "".join(line()) == after[1:] + "z", "whoever is queued later comes after all"


def test_jobs_that_were_queued_in_one_transaction_can_be_exchanged_too(revision: Revision, bob: User) -> None:
    with transaction.atomic():
        jobs = queue(*"abc", of=revision)
    Job.objects.update(turn=timezone.now())
    assert line() == ["a", "b", "c"]
    job_move(jobs["c"], user=bob, where="up")
    assert line() == ["a", "c", "b"]


def test_a_job_that_lost_its_worker_keeps_its_place_before_the_others(revision: Revision, bob: User) -> None:
    jobs = queue(*"abc", of=revision)
    claimed = job_claim("device", worker="w", device="cpu")
    assert claimed
    job_move(jobs["c"], user=bob, where="front")
    assert job_transition(claimed.pk, to=State.QUEUED, of_epoch=claimed.epoch)
    assert line() == ["a", "c", "b"]


def test_a_paused_job_comes_back_at_the_end(revision: Revision, bob: User) -> None:
    jobs = queue(*"abc", of=revision)
    job_move(jobs["b"], user=bob, where="front")
    job_transition(jobs["b"].pk, to=State.PAUSED)
    job_transition(jobs["b"].pk, to=State.QUEUED)
    assert line() == ["a", "c", "b"]


@pytest.mark.parametrize("where", ["up", "front"])
def test_past_another_groups_job_one_moves_only_backwards(
    revision: Revision, theirs: Revision, bob: User, where: Where
) -> None:
    pretrain(theirs, name="theirs")
    ours = pretrain(revision, name="ours")
    with pytest.raises(MoveRefused, match=f"#{ours.pk} stays: the job before it is another project's"):
        job_move(ours, user=bob, where=where)
    assert line() == ["theirs", "ours"]
    pretrain(theirs, name="their second")
    job_move(ours, user=bob, where="down")
    assert line() == ["theirs", "their second", "ours"]


def test_to_the_front_ends_behind_the_last_job_of_others(revision: Revision, theirs: Revision, bob: User) -> None:
    queue("a", of=revision)
    queue("theirs", of=theirs)
    jobs = queue(*"bcd", of=revision)
    job_move(jobs["d"], user=bob, where="front")
    assert line() == ["a", "theirs", "d", "b", "c"]


def test_a_project_that_one_may_only_look_at_is_not_passed(revision: Revision, theirs: Revision, bob: User) -> None:
    Membership.objects.create(project=theirs.dataset.project, user=bob, role=Role.VIEWER)
    pretrain(theirs, name="theirs")
    ours = pretrain(revision, name="ours")
    with pytest.raises(MoveRefused):
        job_move(ours, user=bob, where="up")
    Membership.objects.filter(project=theirs.dataset.project, user=bob).update(role=Role.EDITOR)
    job_move(ours, user=bob, where="up")
    assert line() == ["ours", "theirs"]


def test_an_administrator_moves_any_job_past_any(revision: Revision, theirs: Revision, admin: User) -> None:
    queue("a", of=revision)
    theirs_first = pretrain(theirs, name="theirs")
    job_move(theirs_first, user=admin, where="front")
    assert line() == ["theirs", "a"]


@pytest.mark.parametrize(
    ("name", "where", "sentence"),
    [("a", "up", "is first already"), ("a", "front", "is first already"), ("b", "down", "is last already")],
)
def test_at_the_ends_of_the_queue_a_move_is_refused_with_a_sentence(
    revision: Revision, bob: User, name: str, where: Where, sentence: str
) -> None:
    jobs = queue(*"ab", of=revision)
    with pytest.raises(MoveRefused, match=sentence):
        job_move(jobs[name], user=bob, where=where)


def test_a_job_that_has_begun_meanwhile_is_not_moved(revision: Revision, bob: User) -> None:
    jobs = queue(*"ab", of=revision)
    job_claim("device", worker="w", device="cpu")
    with pytest.raises(MoveRefused, match="is not in the queue any more"):
        job_move(jobs["a"], user=bob, where="down")


def _together(*works: Callable[[], None]) -> None:
    """Runs all at once, each on a connection of its own, and says what any of them died of."""
    begin, faults = threading.Barrier(len(works)), []

    def run(work: Callable[[], None]) -> None:
        try:
            begin.wait()
            work()
        except BaseException as fault:  # noqa: BLE001 - told below
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


@pytest.mark.django_db(transaction=True)
def test_several_people_and_workers_at_once_lose_and_double_no_place(revision: Revision, bob: User) -> None:
    jobs = list(queue(*"abcdefgh", of=revision).values())
    turns = set(Job.objects.values_list("turn", flat=True))
    assert len(turns) == len(jobs)
    claimed: list[int] = []

    def move(offset: int) -> None:
        for n in range(24):
            job = jobs[(n * 3 + offset) % len(jobs)]
            with suppress(MoveRefused):  # it is at an end, or has begun
                job_move(job, user=bob, where=("up", "down", "front")[n % 3])

    def claim() -> None:
        for _ in range(2):
            job = job_claim("device", worker="w", device="cpu")
            assert job
            claimed.append(job.pk)

    _together(*(lambda n=n: move(n) for n in range(4)), claim, claim)
    assert len(set(claimed)) == 4
    assert set(Job.objects.values_list("turn", flat=True)) == turns, "the turns are handed around, no more"
    assert sorted([*queued_jobs("device").values_list("pk", flat=True), *claimed]) == [job.pk for job in jobs]


def test_a_turn_is_the_time_of_queueing_until_somebody_moves_the_job(revision: Revision) -> None:
    job = pretrain(revision)
    assert abs(job.turn - timezone.now()) < datetime.timedelta(minutes=1)
    job.refresh_from_db()
    assert job.turn == job.queued_at
