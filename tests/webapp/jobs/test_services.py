"""What people ask of jobs, and what they are told when it cannot be."""

from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from ml_core.specs import SpecError
from ml_core.specs.cam import RANDOM_CORRELATION_LIMIT
from tests.counting import make_revision, pretrain
from webapp.datasets.models import Revision
from webapp.jobs import services
from webapp.jobs.lifecycle import events as lifecycle_events
from webapp.jobs.lifecycle import reaper, snapshot
from webapp.jobs.lifecycle.leases import Fenced, job_claim, lease_renew, locked_attempt
from webapp.jobs.lifecycle.transitions import TRANSITIONS, job_transition
from webapp.jobs.models import ENDED, OWNED, Artifact, Event, Job, State
from webapp.projects.models import Project, User

ACTIONS = {
    "cancel": services.job_cancel,
    "pause": services.job_pause,
    "resume": services.job_resume,
    "retry": services.job_retry,
}


@pytest.fixture
def revision(project: Project) -> Revision:
    return make_revision(project)


def bring(job: Job, state: State, **columns: Any) -> Job:
    """Puts a job into a state without asking anybody."""
    Job.objects.filter(pk=job.pk).update(state=state, **columns)
    return Job.objects.get(pk=job.pk)


def test_a_job_is_queued_and_says_so_in_its_own_sequence(revision: Revision, bob: User) -> None:
    job = pretrain(revision, user=bob)
    assert (job.state, job.queue, job.name, job.created_by) == ("queued", "device", "Pretrain Lucchi", bob)
    said = lifecycle_events.events_after(job, 0)
    assert [(e["kind"], e["data"]["from"], e["data"]["to"]) for e in said] == [("state", None, "queued")]
    assert lifecycle_events.events_after(job, said[-1]["id"]) == []


@pytest.mark.parametrize(("facts", "limit"), [({}, RANDOM_CORRELATION_LIMIT), ({"random_correlation_limit": 0.5}, 0.5)])
def test_a_map_comes_with_the_limit_of_its_time_or_with_that_of_today(
    revision: Revision, bob: User, facts: dict[str, float], limit: float
) -> None:
    job = pretrain(revision, user=bob)
    data = {"artifact": "cam_sheet", "facts": {"random_correlation": 0.75, **facts}}
    Event.objects.create(job=job, epoch=job.epoch, kind="artifact", time=timezone.now(), data=data)
    sent = lifecycle_events.events_after(job, 0)[-1]["data"]["facts"]
    assert sent == {"random_correlation": 0.75, "random_correlation_limit": limit}


@pytest.mark.parametrize(
    ("inputs", "slot", "sentence"),
    [
        ({}, "dataset", "Choose: Dataset."),
        ({"dataset": {"revision": 999}}, "dataset", "no such revision in this project"),
        ({"dataset": {"revision": "1; DROP"}}, "dataset", "no such revision in this project"),
        ({"dataset": {"revision": True}}, "dataset", "no such revision in this project"),
        ({"dataset": "Lucchi"}, "dataset", "no reference"),
        ({"datset": {"revision": 1}}, "datset", "takes no input datset"),
        ({"start": {"job": 2**70, "artifact": "encoder"}}, "start", "no such job in this project"),
    ],
)
def test_inputs_are_refused_slot_by_slot(
    project: Project, bob: User, inputs: dict[str, Any], slot: str, sentence: str
) -> None:
    with pytest.raises(SpecError) as refused:
        services.job_submit(project=project, user=bob, spec={"kind": "pretrain", "views": "byol"}, inputs=inputs)
    assert sentence in next(r.sentence for r in refused.value.refusals if r.field == slot)
    assert not Job.objects.exists()


def test_what_belongs_to_another_project_cannot_be_taken(revision: Revision, bob: User) -> None:
    other = make_revision(Project.objects.create(name="Other"), "Secret")
    theirs = pretrain(other)
    for inputs in (
        {"dataset": {"revision": other.pk}},
        {"dataset": {"revision": revision.pk}, "start": {"job": theirs.pk, "artifact": "encoder"}},
    ):
        with pytest.raises(SpecError):
            services.job_submit(
                project=revision.dataset.project, user=bob, spec={"kind": "pretrain", "views": "byol"}, inputs=inputs
            )
    with pytest.raises(SpecError):
        pretrain(revision, after=[theirs])


def test_an_artifact_of_the_wrong_kind_is_refused(revision: Revision) -> None:
    first = pretrain(revision)
    with pytest.raises(SpecError, match="makes no colour"):
        pretrain(revision, inputs={"colour": {"job": first.pk, "artifact": "colour"}})


def test_colour_of_another_revision_is_refused(revision: Revision, project: Project) -> None:
    other = make_revision(project, "Kasthuri")
    colour = services.job_submit(
        project=project, user=None, spec={"kind": "colorize"}, inputs={"dataset": {"revision": other.pk}}
    )
    with pytest.raises(SpecError, match="another dataset or revision"):
        pretrain(revision, inputs={"colour": {"job": colour.pk, "artifact": "colour"}})


def test_a_job_waits_for_those_it_takes_from_and_says_for_which(revision: Revision) -> None:
    first = pretrain(revision, name="BYOL")
    second = pretrain(revision, inputs={"start": {"job": first.pk, "artifact": "encoder"}})
    assert (second.state, second.reason) == ("waiting", f"After #{first.pk} BYOL.")
    bring(first, State.RUNNING)
    job_transition(first.pk, to=State.FAILED, reason="Out of memory.")
    second.refresh_from_db()
    assert second.state == State.WAITING
    assert second.reason == f"Waits: #{first.pk} BYOL failed. Start that one again, or cancel this job."
    assert services.job_retry(first, user=None)
    second.refresh_from_db()
    assert second.reason == f"After #{first.pk} BYOL."
    bring(first, State.RUNNING)
    job_transition(first.pk, to=State.DONE)
    second.refresh_from_db()
    assert (second.state, second.reason) == ("queued", "")


def test_a_job_whose_predecessor_ended_in_the_same_instant_is_found_by_the_reaper(revision: Revision) -> None:
    first = pretrain(revision)
    second = pretrain(revision, after=[first])
    bring(first, State.DONE)  # as a commit that neither side saw
    reaper.Reaper().round()
    assert Job.objects.get(pk=second.pk).state == State.QUEUED


@pytest.mark.parametrize("state", State.values)
@pytest.mark.parametrize("action", list(ACTIONS))
def test_what_may_be_done_can_be_done_and_nothing_else(revision: Revision, state: str, action: str) -> None:
    owned_now = {"epoch": 1, "lease_until": timezone.now() + datetime.timedelta(seconds=60)}
    wanted = {"stop_wanted": "pause"} if state == State.STOPPING else {}
    job = bring(pretrain(revision), State(state), **({**owned_now, **wanted} if state in OWNED else {}))
    offered = action in snapshot.allowed_actions(job)
    assert ACTIONS[action](job, user=None) is offered
    assert (Job.objects.get(pk=job.pk).state != state or state == State.STOPPING) is (
        offered or state == State.STOPPING
    )


def test_every_change_outside_of_the_table_is_refused_and_writes_nothing(revision: Revision) -> None:
    job = pretrain(revision)
    for before in State:
        for after in State:
            bring(job, before)
            events = job.events.count()
            made = job_transition(job.pk, to=after)
            assert (made is not None) is (after in TRANSITIONS[before])
            assert job.events.count() - events == (1 if made else 0)
            assert Job.objects.get(pk=job.pk).state == (after if made else before)


def test_a_running_job_is_asked_to_stop_and_a_pause_may_become_a_cancel(revision: Revision, bob: User) -> None:
    pretrain(revision)
    job = job_claim("device", worker="w", device="cpu")
    assert job
    assert services.job_pause(job, user=bob)
    assert not services.job_pause(job, user=bob)
    assert lease_renew(job.pk, epoch=1) == "pause"
    assert services.job_cancel(job, user=bob)
    assert lease_renew(job.pk, epoch=1) == "cancel"
    assert snapshot.allowed_actions(Job.objects.get(pk=job.pk)) == ["clone"]


def test_the_oldest_queued_job_is_claimed_first(revision: Revision) -> None:
    jobs = [pretrain(revision, seed=n) for n in range(3)]
    claimed = [job_claim("device", worker="w", device="cpu") for _ in range(4)]
    assert [c and c.pk for c in claimed] == [*(job.pk for job in jobs), None]
    first = claimed[0]
    assert first
    assert (first.epoch, first.worker, first.state) == (1, "w", "running")


@pytest.mark.django_db(transaction=True)
def test_no_two_workers_claim_the_same_job(revision: Revision) -> None:
    for n in range(12):
        pretrain(revision, seed=n)
    claimed: list[int] = []

    def claim() -> None:
        while job := job_claim("device", worker="w", device="cpu"):
            claimed.append(job.pk)
        connection.close()

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 12


def test_who_was_fenced_can_neither_renew_nor_write(revision: Revision) -> None:
    pretrain(revision)
    stale = job_claim("device", worker="first", device="cpu")
    assert stale
    job_transition(stale.pk, to=State.QUEUED)
    job_claim("device", worker="second", device="cpu")
    with pytest.raises(Fenced):
        lease_renew(stale.pk, epoch=stale.epoch)
    with pytest.raises(Fenced), locked_attempt(stale.pk, epoch=stale.epoch):
        Event.objects.create(job=stale, epoch=1, seq=1, kind="point", time=timezone.now())
    assert not Event.objects.filter(kind="point").exists()


def test_a_job_whose_lease_has_ended_goes_back_with_the_time_and_the_step(
    revision: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper.Reaper, "_may_reap", lambda self: True)
    pretrain(revision)
    job = job_claim("device", worker="w", device="cpu")
    assert job
    assert reaper.Reaper().round() == 0
    past = timezone.now() - datetime.timedelta(seconds=10)
    Job.objects.filter(pk=job.pk).update(lease_until=past, checkpoint_step=12_400)
    assert reaper.Reaper().round() == 1
    job.refresh_from_db()
    silent = timezone.localtime(past - reaper.LEASE)
    assert job.state == State.QUEUED
    assert job.failures == 0
    assert job.reason == (
        f"The worker fell silent at {silent:%H:%M}. It goes on from step 12,400 or later; no recorded point is lost."
    )
    assert reaper.Reaper().round() == 0


@pytest.mark.parametrize(("wanted", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_what_was_wanted_of_a_lost_job_still_happens(
    revision: Revision, monkeypatch: pytest.MonkeyPatch, wanted: str, state: str
) -> None:
    monkeypatch.setattr(reaper.Reaper, "_may_reap", lambda self: True)
    pretrain(revision)
    job = job_claim("device", worker="w", device="cpu")
    assert job
    ACTIONS[wanted](job, user=None)
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=10))
    reaper.Reaper().round()
    assert Job.objects.get(pk=job.pk).state == state


def test_nothing_is_reaped_in_the_first_lease_after_the_database_was_away(
    revision: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(reaper.time, "monotonic", lambda: clock[0])
    found = reaper.Reaper()
    assert not found._may_reap()
    clock[0] += reaper.LEASE.total_seconds()
    seen = found._may_reap()  # true unless the tests' own database has just been started
    found.lost_sight()
    assert not found._may_reap()
    clock[0] += reaper.LEASE.total_seconds()
    assert found._may_reap() or not seen


def test_hints_are_repeated_for_queued_jobs_but_do_not_pile_up(
    revision: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying, sent = [0], []
    monkeypatch.setattr(reaper, "hints_waiting", lambda queue: lying[0])
    monkeypatch.setattr(reaper, "send_hint", lambda pk, queue: sent.append(pk))
    jobs = [pretrain(revision, seed=n) for n in range(3)]
    found = reaper.Reaper()
    found.round()
    assert sent == []  # they have just been sent
    Job.objects.update(hinted_at=timezone.now() - datetime.timedelta(seconds=60))
    lying[0] = 1
    found.round()
    assert sent == [job.pk for job in jobs][:2]


def test_events_come_in_pages_with_the_address_of_what_was_made(revision: Revision) -> None:
    job = pretrain(revision)
    event = Event.objects.create(
        job=job, epoch=1, seq=1, kind="artifact", name="a b/c.png", time=timezone.now(), data={"artifact": "pairs"}
    )
    made = Artifact.objects.create(
        job=job, event=event, kind="pairs", name="a b/c.png", sha256="0" * 64, size=1, media_type="image/png", epoch=1
    )
    first = lifecycle_events.events_after(job, 0, limit=1)
    second = lifecycle_events.events_after(job, first[-1]["id"], limit=1)
    assert [e["kind"] for e in first + second] == ["state", "artifact"]
    assert second[0]["data"] == {"artifact": "pairs", "url": f"/artifacts/{made.pk}/a%20b_c.png"}


def test_the_snapshot_holds_what_the_contract_names(revision: Revision) -> None:
    names = (
        "id name kind state state_label reason stop_wanted epoch attempt step total_steps steps_per_epoch "
        "checkpoint_step progress results device worker silent_seconds started_at ended_at may"
    )
    job = pretrain(revision)
    assert list(snapshot.snapshot(job)) == names.split()


def test_only_a_finished_training_can_be_extended(revision: Revision) -> None:
    job = pretrain(revision, epochs=5)
    with pytest.raises(SpecError):
        services.job_extend(job, user=None, epochs=5)
    job = bring(job, State.DONE)
    with pytest.raises(SpecError):
        services.job_extend(job, user=None, epochs=0)
    longer = services.job_extend(job, user=None, epochs=5)
    assert (longer.spec["epochs"], longer.extends_id, longer.state) == (10, job.pk, "queued")
    assert "extend" in snapshot.allowed_actions(job)
    assert set(ENDED) == {State.DONE, State.FAILED, State.CANCELLED}
