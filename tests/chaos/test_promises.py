"""The queue's promises, counted while its parts are killed (docs: promises R1, R3, R8)."""

from __future__ import annotations

import os
import random
import signal
import time

import psutil
import pytest
from django.db import Error, connection

from tests.counting import assert_curve_is_whole, pretrain, wait_until
from tests.stack import House, alive, kill_engine
from webapp.datasets.models import Revision
from webapp.jobs.models import ENDED, OWNED, Job, State

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("CRISTAE_TEST_KILLS", "8"))


def when_asked(question):  # type: ignore[no-untyped-def]
    """The answer, once there is a database to give it."""
    while True:
        try:
            return question()
        except Error:
            connection.close()
            time.sleep(0.1)


def test_a_job_ends_exactly_once_whatever_is_killed(standing: House, stood_on: Revision) -> None:
    """R1: worker, trainer, broker and database are killed at random; both jobs finish whole, never twice at once."""
    seed = int(os.environ.get("CRISTAE_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"CRISTAE_TEST_SEED={seed}")
    chance = random.Random(seed)
    standing.counting.behave(steps=600, seconds_per_step=0.02, checkpoint_every=20)
    jobs = [pretrain(stood_on, seed=n) for n in range(2)]
    victims = ["worker", "trainer", "redis", "postgres"] * (KILLS // 4) + ["worker"] * (KILLS % 4)
    chance.shuffle(victims)
    for victim in victims:
        wait_until(lambda: standing.trainers() or when_asked(_all_ended), seconds=40, what="a trainer at work")
        time.sleep(chance.uniform(0.1, 1.2))
        _kill(standing, victim)
    wait_until(lambda: when_asked(_all_ended), seconds=90, what="both jobs to end")
    for job in Job.objects.filter(pk__in=[j.pk for j in jobs]):
        print(job, "attempts:", job.epoch)
        assert job.state == State.DONE, job.reason
        assert job.events.filter(kind="state", data__to="done").count() == 1
        assert not standing.counting.overlaps(job)
        assert_curve_is_whole(job, 600)
        assert job.artifacts.count() == 1
    assert not standing.counting.overlaps()


def _all_ended() -> bool:
    return not Job.objects.exclude(state__in=ENDED).exists()


def _kill(standing: House, victim: str) -> None:
    if victim == "redis":
        kill_engine(standing.redis)
    elif victim == "postgres":
        kill_engine(standing.postgres)
    else:
        for process in standing.workers() if victim == "worker" else standing.trainers():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def test_a_stale_worker_cannot_write(standing: House, stood_on: Revision) -> None:
    """R3: a worker is stopped for two leases while another takes its job over, and then goes on."""
    standing.counting.behave(steps=400, seconds_per_step=0.02)
    job = pretrain(stood_on)
    wait_until(lambda: Job.objects.get(pk=job.pk).step > 20, what="the first steps")
    stale = standing.workers()
    assert len(stale) == 1
    first = standing.trainers()
    stale[0].send_signal(signal.SIGSTOP)
    try:
        # A second host, as far as the queue can tell: the stopped worker holds this host's device.
        standing.environment["CRISTAE_RUN"] = str(standing.folder / "second-host")
        standing.start("second", "work", "--queues", "device")
        wait_until(lambda: Job.objects.get(pk=job.pk).epoch == 2, what="the second worker to take over")
        wait_until(lambda: not any(alive(t) for t in first), what="the first trainer to leave by itself")
        begun = wait_until(lambda: job.events.filter(kind="attempt", epoch=2).first())
    finally:
        stale[0].send_signal(signal.SIGCONT)
        del standing.environment["CRISTAE_RUN"]
    wait_until(lambda: Job.objects.get(pk=job.pk).state == State.DONE, seconds=40, what="the second worker to finish")
    assert not job.events.filter(epoch=1, pk__gt=begun.pk).exists()
    assert not standing.counting.overlaps(job)
    assert_curve_is_whole(job, 400)
    wait_until(lambda: "is no longer this worker's" in standing.log("work"), what="the first to know that it is fenced")


def test_one_trainer_per_device_and_first_come_first_served(standing: House, stood_on: Revision) -> None:
    """R8: twenty jobs at once on one slot."""
    standing.counting.behave(steps=5)
    jobs = [pretrain(stood_on, seed=n) for n in range(20)]
    wait_until(_all_ended, seconds=60, what="twenty jobs to end")
    assert set(Job.objects.values_list("state", flat=True)) == {"done"}
    assert not standing.counting.overlaps()
    assert [run[2] for run in standing.counting.runs()] == [job.pk for job in jobs]


def test_nothing_is_left_running_when_the_runner_leaves(standing: House, stood_on: Revision) -> None:
    """TERM drains: the trainer writes a checkpoint, the job goes back, and no process stays behind."""
    standing.counting.behave(steps=10_000)
    job = pretrain(stood_on)
    wait_until(lambda: Job.objects.get(pk=job.pk).step > 5, what="the first steps")
    family = standing.below("work") + standing.trainers()
    assert len(family) >= 2
    assert standing.stop("work") == 0
    assert not [p for p in family if alive(p)]
    job.refresh_from_db()
    assert (job.state, job.failures) == (State.QUEUED, 0)
    assert "goes on from step" in job.reason


def test_nothing_is_left_running_when_the_runner_is_killed(standing: House, stood_on: Revision) -> None:
    standing.counting.behave(steps=10_000)
    job = pretrain(stood_on)
    wait_until(lambda: Job.objects.get(pk=job.pk).step > 5, what="the first steps")
    family = standing.below("work") + standing.trainers()
    standing.services.pop("work").kill()
    wait_until(lambda: not [p for p in family if alive(p)], seconds=20, what="everything to leave by itself")
    assert Job.objects.get(pk=job.pk).state not in OWNED


def test_the_database_may_be_away_for_longer_than_a_lease(standing: House, stood_on: Revision) -> None:
    """R9, shortened: training goes on in the same attempt, and nothing that was said is lost."""
    standing.counting.behave(steps=600, seconds_per_step=0.02, checkpoint_every=20)
    job = pretrain(stood_on)
    wait_until(lambda: Job.objects.get(pk=job.pk).step > 20, what="the first steps")
    standing.postgres.stop()
    connection.close()
    before = len(standing.counting.audit(job))
    time.sleep(6)  # three leases
    assert len(standing.counting.audit(job)) > before + 100
    standing.postgres.start()
    wait_until(lambda: when_asked(_all_ended), seconds=60, what="the job to end")
    job = Job.objects.get(pk=job.pk)
    assert (job.state, job.epoch) == (State.DONE, 1)
    assert_curve_is_whole(job, 600)
