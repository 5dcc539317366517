"""A supervisor sees a job through: with a real trainer process, a real database, real files."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from django.conf import settings

from tests.counting import Counting, assert_curve_is_whole, pretrain, steps_of, wait_until
from tests.worker.conftest import Hands
from webapp.datasets.models import Revision
from webapp.jobs import services
from webapp.jobs.models import Job, State
from webapp.projects.models import User
from webapp.registry.models import Encoder
from worker import supervisor
from worker.tasks import work_off

pytestmark = pytest.mark.slow


def states(job: Job) -> list[str]:
    return [e.data["to"] for e in job.events.filter(kind="state") if e.data]


def fresh(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def test_a_job_runs_to_its_end_and_leaves_all_that_it_said(counting: Counting, revision: Revision) -> None:
    counting.behave(steps=30)
    job = pretrain(revision)
    work_off("device")
    job = fresh(job)
    assert (job.state, job.reason, job.epoch, job.step, job.checkpoint_step) == ("done", "", 1, 30, 30)
    assert states(job) == ["queued", "running", "done"]
    assert_curve_is_whole(job, 30)
    assert job.results["steps"] == 30
    assert job.record["total_steps"] == 30
    assert job.record["inputs"] == {"dataset": revision.manifest}
    assert job.lease_until is None
    assert not counting.overlaps()
    encoder = Encoder.objects.get()
    assert (encoder.architecture, encoder.origin, encoder.project_id) == ("resnet18", "byol", job.project_id)
    blob = Path(settings.BLOBS) / encoder.sha256[:2] / encoder.sha256
    assert blob.read_bytes() == f"weights of job {job.pk}".encode()


def test_the_trainer_is_given_its_inputs_as_files_and_none_of_the_servers_keys(
    counting: Counting, revision: Revision
) -> None:
    job = pretrain(revision)
    work_off("device")
    folder = Path(settings.JOBS) / f"job-{job.pk}" / "epoch-1"
    inputs = json.loads((folder / "inputs.json").read_text())
    assert Path(inputs["slots"]["dataset"]["path"]).is_file()
    assert inputs["slots"]["dataset"]["manifest"] == revision.manifest
    from worker.host_devices import CPU, Slot
    from worker.trainer_process import _environment

    assert not {"DATABASE_URL", "REDIS_URL", "CRISTAE_SECRET_KEY"} & set(_environment(Slot(CPU, None)))


def test_a_job_takes_the_artifact_of_the_job_it_waited_for(counting: Counting, revision: Revision) -> None:
    first = pretrain(revision)
    second = pretrain(revision, inputs={"start": {"job": first.pk, "artifact": "encoder"}})
    assert fresh(second).state == State.WAITING
    work_off("device")
    assert fresh(second).state == State.DONE
    inputs = json.loads((Path(settings.JOBS) / f"job-{second.pk}" / "epoch-1" / "inputs.json").read_text())
    assert Path(inputs["slots"]["start"]["path"]).read_bytes() == f"weights of job {first.pk}".encode()
    assert inputs["slots"]["start"]["facts"]["architecture"] == "resnet18"


def test_what_a_person_can_mend_fails_at_once_with_its_sentence(counting: Counting, revision: Revision) -> None:
    counting.behave(exit_at={"step": 3, "code": 70, "says": "Halve the learning rate."})
    job = pretrain(revision)
    work_off("device")
    assert (fresh(job).state, fresh(job).reason, fresh(job).epoch) == ("failed", "Halve the learning rate.", 1)


def test_a_crash_is_tried_again_from_the_checkpoint(counting: Counting, revision: Revision) -> None:
    counting.behave(steps=30, crash_at={"step": 17, "signal": "SEGV"})
    job = pretrain(revision)
    work_off("device")
    job = fresh(job)
    assert (job.state, job.epoch, job.failures) == ("done", 2, 0)
    assert_curve_is_whole(job, 30)
    again = job.events.get(kind="attempt", epoch=2)
    assert again.data == {"number": 2, "resumed_step": 10}
    assert "SIGSEGV" in job.events.filter(kind="state", data__to="queued").last().data["reason"]


def test_a_job_that_crashes_at_the_same_step_three_times_fails_with_a_sentence(
    counting: Counting, revision: Revision
) -> None:
    counting.behave(steps=30, crash_at={"step": 17, "code": 3, "times": 9})
    job = pretrain(revision)
    work_off("device")
    job = fresh(job)
    # The first made a checkpoint, which counts for it; the next three did not get past step 17.
    assert (job.state, job.epoch, job.failures) == ("failed", 4, 3)
    assert "exit code 3: about to crash" in job.reason
    assert "3 times" in job.reason
    assert "about to crash" in job.log_tail


def test_out_of_memory_is_named(counting: Counting, revision: Revision) -> None:
    counting.behave(crash_at={"step": 1, "signal": "KILL", "times": 9})
    job = pretrain(revision)
    work_off("device")
    assert fresh(job).state == State.FAILED
    assert "memory runs out" in fresh(job).reason


def test_a_job_that_ends_without_what_it_should_make_has_failed(counting: Counting, revision: Revision) -> None:
    counting.behave(no_encoder=True)
    job = pretrain(revision)
    work_off("device")
    assert (fresh(job).state, fresh(job).reason) == (
        "failed",
        "The job ended without its encoder. See its log.",
    )


def test_a_missing_file_fails_the_job_and_names_it(counting: Counting, revision: Revision) -> None:
    job = pretrain(revision)
    (Path(settings.BLOBS) / revision.manifest[:2] / revision.manifest).unlink()
    work_off("device")
    assert fresh(job).state == State.FAILED
    assert "the manifest of Lucchi" in fresh(job).reason
    assert not counting.audit(job)


def test_cancel_ends_a_running_job_within_seconds(
    counting: Counting, revision: Revision, hands: Hands, bob: User
) -> None:
    counting.behave(steps=10_000)
    job = pretrain(revision)
    hands.work()
    wait_until(lambda: fresh(job).step > 3)
    began = time.monotonic()
    assert services.job_cancel(job, user=bob)
    wait_until(lambda: fresh(job).state == State.CANCELLED)
    assert time.monotonic() - began < 5
    assert fresh(job).reason == "Cancelled by bob."
    assert states(job)[-2:] == ["stopping", "cancelled"]
    wait_until(lambda: counting.audit(job)[-1]["what"] == "end")


def test_cancel_ends_a_trainer_that_does_not_listen(
    counting: Counting, revision: Revision, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CANCEL", supervisor.Grace(term=0.5, kill=1.0))
    counting.behave(steps=10_000, ignore_stop=True, ignore_term=True)
    job = pretrain(revision)
    hands.work()
    wait_until(lambda: fresh(job).step > 3)
    services.job_cancel(job, user=None)
    wait_until(lambda: fresh(job).state == State.CANCELLED, seconds=10)
    pid = counting.audit(job)[-1]["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_cancel_before_the_start_never_starts(counting: Counting, revision: Revision) -> None:
    job = pretrain(revision)
    services.job_cancel(job, user=None)
    work_off("device")
    assert fresh(job).state == State.CANCELLED
    assert not counting.audit(job)


def test_a_paused_job_goes_on_where_it_stopped(counting: Counting, revision: Revision, hands: Hands, bob: User) -> None:
    counting.behave(steps=200)
    job = pretrain(revision)
    hands.work()
    wait_until(lambda: fresh(job).step > 20)
    assert services.job_pause(job, user=bob)
    wait_until(lambda: fresh(job).state == State.PAUSED)
    stopped_at = fresh(job).checkpoint_step
    assert fresh(job).reason == f"Paused by bob. The checkpoint of step {stopped_at} is kept."
    assert services.job_resume(job, user=bob)
    hands.work().join()
    assert fresh(job).state == State.DONE
    assert job.events.get(kind="attempt", epoch=2).data["resumed_step"] == stopped_at
    assert job.events.filter(kind="point").count() == 200
    assert_curve_is_whole(job, 200)


def test_a_job_extended_by_more_epochs_starts_from_the_full_state(counting: Counting, revision: Revision) -> None:
    counting.behave(steps=20)
    first = pretrain(revision, epochs=2)
    work_off("device")
    longer = services.job_extend(fresh(first), user=None, epochs=3)
    work_off("device")
    assert fresh(longer).state == State.DONE
    assert longer.spec["epochs"] == 5
    assert steps_of(longer) == list(range(41, 101))
    assert longer.extends_id == first.pk


def test_a_worker_told_to_leave_puts_its_job_back(counting: Counting, revision: Revision, hands: Hands) -> None:
    counting.behave(steps=200)
    job = pretrain(revision)
    hands.work()
    wait_until(lambda: fresh(job).step > 20)
    hands.leave()
    job = fresh(job)
    assert (job.state, job.failures, job.worker) == ("queued", 0, "")
    assert job.reason == f"The worker was stopped. It goes on from step {job.checkpoint_step}."
    hands.work().join()
    assert fresh(job).state == State.DONE
    assert_curve_is_whole(job, 200)
    assert job.events.filter(kind="point").count() == 200


def test_what_breaks_the_contract_is_left_out_and_said(counting: Counting, revision: Revision) -> None:
    counting.behave(junk=True)
    job = pretrain(revision)
    work_off("device")
    assert fresh(job).state == State.DONE
    said = list(job.events.filter(kind="note").values_list("data__text", flat=True))
    assert "Line 2 of the trainer's events could not be read and was left out." in said
    assert any(text.startswith("nul \ufffd and") for text in said)
    assert job.events.filter(kind="point", step=1, value=None).exists()


def test_one_job_at_a_time_on_one_device_in_the_order_of_the_queue(
    counting: Counting, revision: Revision, hands: Hands
) -> None:
    counting.behave(steps=5)
    jobs = [pretrain(revision, seed=n) for n in range(6)]
    threads = [hands.work() for _ in range(3)]
    for thread in threads:
        thread.join()
    wait_until(lambda: not Job.objects.exclude(state=State.DONE).exists())
    assert not counting.overlaps()
    assert [run[2] for run in counting.runs()] == [job.pk for job in jobs]


def test_what_an_earlier_attempt_left_uncollected_is_collected_first(counting: Counting, revision: Revision) -> None:
    """Its worker died between a trainer's words and their collection: a checkpoint and points lie in its folder."""
    job = pretrain(revision)
    folder = Path(settings.JOBS) / f"job-{job.pk}" / "epoch-1"
    checkpoint = folder / "checkpoints" / f"step-{10:012d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state").write_text("10")
    digest = hashlib.sha256(b"10").hexdigest()
    (checkpoint / "complete.json").write_text(json.dumps({"version": 1, "step": 10, "files": {"state": digest}}))
    said = [{"kind": "point", "name": "loss/train", "step": n, "value": 1 / n} for n in range(1, 15)]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said) + '{"kind": "poi')
    Job.objects.filter(pk=job.pk).update(epoch=1)
    work_off("device")
    assert fresh(job).state == State.DONE
    assert_curve_is_whole(job, 20)
    again = job.events.get(kind="attempt", epoch=2)
    assert again.data == {"number": 2, "resumed_step": 10}
    adopted = job.events.filter(kind="point", epoch=1)
    assert [e.step for e in adopted] == list(range(1, 15))
    assert all(e.pk < again.pk for e in adopted)


def test_a_damaged_checkpoint_is_passed_over(counting: Counting, revision: Revision) -> None:
    counting.behave(steps=30, seconds_per_step=0.03, crash_at={"step": 29, "code": 1})
    job = pretrain(revision)
    folder = Path(settings.JOBS) / f"job-{job.pk}" / "epoch-1" / "checkpoints"

    def damage() -> None:
        wait_until(lambda: (folder / f"step-{20:012d}" / "complete.json").exists())
        (folder / f"step-{20:012d}" / "state").write_text("99")

    damaging = threading.Thread(target=damage)
    damaging.start()
    work_off("device")
    damaging.join()
    assert fresh(job).state == State.DONE
    assert job.events.get(kind="attempt", epoch=2).data["resumed_step"] == 10
    assert_curve_is_whole(job, 30)


def test_a_stopped_trainer_of_a_dead_worker_does_not_keep_the_device(
    counting: Counting, revision: Revision, hands: Hands
) -> None:
    """The trainer cannot leave by itself; its successor's supervisor ends it."""
    counting.behave(steps=100)
    job = pretrain(revision)
    hands.work()
    wait_until(lambda: fresh(job).step > 20)
    pid = counting.audit(job)[-1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    Job.objects.filter(pk=job.pk).update(state=State.QUEUED, epoch=2)  # as if another worker had had it in between
    hands.leave()
    hands.work().join()
    assert fresh(job).state == State.DONE
    assert_curve_is_whole(job, 100)
