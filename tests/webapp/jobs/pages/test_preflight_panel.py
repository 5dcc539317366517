"""What the form of a new job says before anything runs: memory, start, traps in the data."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from ml_core.specs import SegmentSpec, from_preset
from tests.webapp.conftest import JobMaker, Page
from tests.webapp.markup import words
from webapp.datasets.models import Item, Revision
from webapp.jobs.estimates.memory import GIB, Room, batch_that_fits, need_on
from webapp.jobs.forms.job_form import JobForm
from webapp.jobs.lifecycle import heartbeats
from webapp.jobs.models import Job, State
from webapp.projects.models import Project, User

Foretell = Callable[..., str]


@pytest.fixture
def foretell(seen_by: Page, bob: User, project: Project, revision: Revision) -> Foretell:
    """What the side of Bob's form says, tags and doubled spaces left out."""
    client = seen_by(bob)

    def ask(kind: str = "segment", preset: str = "quick", **changes: str) -> str:
        form = JobForm(project=project, kind=kind, preset=preset)
        sent = {field.info.name: field.value for field in form.fields} | {s.name: s.value for s in form.slots}
        sent |= {"kind": kind, "preset": preset, **changes}
        return words(client.post(f"/projects/{project.pk}/jobs/preflight/", sent).content.decode())

    return ask


def _workers(monkeypatch: pytest.MonkeyPatch, *, gpu: float | None = None, used: float = 0, free: float = 16) -> None:
    """One worker, with a GPU of so many GiB or only its CPU."""
    device = "cpu" if gpu is None else "cuda:0"
    gpus = {} if gpu is None else {device: {"name": "RTX", "used": int(used * GIB), "total": int(gpu * GIB)}}
    memory = {"free": int(free * GIB), "total": 32 * GIB}
    worker = {"host": "lab-2", "slots": 1, "devices": [device], "gpus": gpus, "memory": memory, "seen_seconds": 1}
    monkeypatch.setattr(heartbeats, "workers", lambda: [{**worker, "queue": queue} for queue in ("device", "io")])


def test_memory_is_held_against_what_is_free_on_the_cpu(foretell: Foretell, monkeypatch: pytest.MonkeyPatch) -> None:
    _workers(monkeypatch, free=16)
    assert re.search(r"Memory about 0\.\d of 16\.0 GiB free on CPU of lab-2 fits", foretell())


def test_memory_that_is_too_little_is_said_with_the_batch_that_fits(
    foretell: Foretell, monkeypatch: pytest.MonkeyPatch
) -> None:
    _workers(monkeypatch, gpu=12, used=0.8)
    says = foretell(preset="paper", weights="fine-tuned", image_size="512", batch_size="40", precision="float32")
    found = re.search(
        r"Batch 40 of 512 x 512 px needs about [\d.]+ GiB; GPU 0 of lab-2 has 11\.2 GiB free\. Queue with batch (\d+)",
        says,
    )
    assert found, says
    batch, room = int(found[1]), Room("GPU 0", int(11.2 * GIB), 12 * GIB, on_gpu=True)
    spec = SegmentSpec(weights="fine-tuned", image_size=512, precision="float32")
    fitting, more = (need_on(room, spec.model_copy(update={"batch_size": b})) for b in (batch, batch + 1))
    assert fitting is not None
    assert more is not None
    assert fitting <= room.free < more, "the largest that fits"


def test_where_no_batch_fits_there_is_no_button_and_a_word_of_what_would_help() -> None:
    room = Room("GPU 0", GIB // 4, 12 * GIB, on_gpu=True)
    assert batch_that_fits(SegmentSpec(image_size=512), room) == 0


def test_a_gpu_that_a_job_holds_will_be_free_when_this_one_starts(
    foretell: Foretell, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _workers(monkeypatch, gpu=12, used=11.9)
    assert "too much" in foretell()
    make_job("pretrain", State.RUNNING, worker="lab-2:77", device="cuda:0")
    assert re.search(r"about [\d.]+ of 12\.0 GiB on GPU 0 of lab-2 fits", foretell())


def test_the_encoder_that_is_given_decides_the_memory_and_not_the_field(
    foretell: Foretell, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _workers(monkeypatch)
    large = make_job("pretrain", State.DONE, spec=from_preset("pretrain", "paper").model_dump(mode="json"))
    given = foretell(**{"slot-encoder": f"job-{large.pk}-encoder", "batch_size": "64"})
    alone = foretell(**{"slot-encoder": "", "batch_size": "64"})
    assert given.partition("GiB")[0] != alone.partition("GiB")[0]


def test_a_kind_of_which_no_memory_is_known_says_nothing_of_it(
    foretell: Foretell, monkeypatch: pytest.MonkeyPatch
) -> None:
    _workers(monkeypatch)
    assert "Memory" not in foretell("colorize")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_job_starts_at_once_where_a_device_is_free(
    foretell: Foretell, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    _workers(monkeypatch)
    if not workers:
        monkeypatch.setattr(heartbeats, "workers", list)
    assert ("Start at once" if workers else "Start once a worker is running") in foretell("colorize")


def test_the_start_is_told_from_what_runs_and_waits_before_it(
    foretell: Foretell, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _workers(monkeypatch)
    soon = timezone.now() + datetime.timedelta(seconds=60)
    running = make_job("pretrain", State.RUNNING, progress={"left": 600}, lease_until=soon)
    says = foretell("colorize")
    assert re.search(r"Start about (\d+ \w+ )?\d\d:\d\d \(1 job ahead\)", says), says
    make_job("pretrain", State.QUEUED, name="of which no run has finished")
    assert "Start not known (2 jobs ahead)" in foretell("colorize")
    Job.objects.filter(pk=running.pk).update(progress={})
    assert "Start not known (2 jobs ahead)" in foretell("colorize")


def test_a_job_that_takes_from_an_unfinished_one_starts_after_it(
    foretell: Foretell, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _workers(monkeypatch)
    encoder = make_job("pretrain", State.QUEUED)
    assert f"Start once #{encoder.pk} is done" in foretell(**{"slot-encoder": f"job-{encoder.pk}-encoder"})


# --- traps in the data ---


def _masked(revision: Revision, name: str, values: dict[str, int]) -> Item:
    known = {"width": 8, "height": 8, "dtype": "uint8", "low": 0, "high": 255, "image": "a" * 64, "thumbnail": "b" * 64}
    mask = {"sha256": "c" * 64, "page": 0, "name": name, "rule": "folder", "values": values}
    return Item.objects.create(
        dataset=revision.dataset,
        added_in=1,
        position=1,
        name=name,
        masks={"mitochondria": mask},
        problems=[{"kind": "unknown_values", "layer": "mitochondria"}] if "38" in values else [],
        **known,
    )


def test_a_value_in_masks_that_no_class_uses_is_said_with_a_way_to_see_them(
    foretell: Foretell, revision: Revision, seen_by: Page, bob: User
) -> None:
    revision.dataset.classes = {"mitochondria": {"255": {"name": "mitochondria", "colour": "#56b4e9"}}}
    revision.dataset.save()
    for n in range(14):
        _masked(revision, f"slice_{n}", {"0": 40, "255": 20, "38": 4})
    _masked(revision, "slice_14", {"0": 40, "255": 24})
    revision.summary["problems"] = {"unknown_values": 14}
    revision.save()
    says = foretell()
    assert (
        "14 masks hold the value 38, which no class uses, and which would be learned as one. Name class 38, or count "
        "it as background. Show the 14" in says
    )
    page = seen_by(bob).get(f"/datasets/{revision.dataset_id}/?problem=unknown_values").content.decode()
    assert "slice_13" in page
    assert "slice_14" not in page


@pytest.mark.parametrize("kind", ["segment", "classify"])
def test_neighbours_on_two_sides_of_the_split_are_told_where_the_split_is_used(
    foretell: Foretell, revision: Revision, kind: str
) -> None:
    sentence = "slice 12 and slice 13 are neighbours in the stack A. Split by stack."
    revision.summary["leaks"] = [{"kind": "neighbours", "sentence": sentence, "count": 1, "examples": []}]
    revision.save()
    assert f"{sentence} See the split" in foretell(kind)
    drawn = {"segment": "validation", "classify": "split"}[kind]
    assert sentence not in foretell(kind, **{drawn: "random"})


def test_the_button_queues_the_job_with_the_smaller_batch(
    seen_by: Page, bob: User, project: Project, revision: Revision
) -> None:
    form = JobForm(project=project, kind="segment", preset="quick")
    sent: dict[str, Any] = {field.info.name: [field.value] for field in form.fields}
    sent |= {s.name: s.value for s in form.slots} | {"kind": "segment", "preset": "quick"}
    sent["batch_size"] = ["512", "3"]  # the field, then the button that was pressed
    assert seen_by(bob).post(f"/projects/{project.pk}/jobs/new/", sent).status_code == 302
    assert Job.objects.latest("pk").spec["batch_size"] == 3
