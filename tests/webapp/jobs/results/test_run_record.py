"""The record of a run: what was asked for, where it ran, on which files."""

from __future__ import annotations

import pytest
from django.test import Client

from ml_core.specs import from_preset
from tests.webapp.artifacts import keep
from tests.webapp.conftest import EventMaker, JobMaker, Page
from tests.webapp.markup import words
from webapp.datasets.models import Revision
from webapp.jobs.models import Job, State
from webapp.projects.models import User


@pytest.fixture
def client(seen_by: Page, bob: User) -> Client:
    return seen_by(bob)


def _record(client: Client, job: Job) -> str:
    """The record as text that a person reads."""
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    return words(page[page.index('id="record"') :])


RECORD = {
    "torch": "2.15.0",
    "cristae": "0.1.0 (9cde28763a68)",
    "python": "3.11.7",
    "threads": 2,
    "device": "NVIDIA H200",
    "inputs": {"dataset": "b957" + "c" * 60},
    "total_steps": 600,
    "steps_per_epoch": 20,
}


def test_the_record_shows_every_field_and_how_it_differs_from_its_preset(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.DONE, record={"torch": "2.15.0", "threads": 2})
    job.spec["epochs"] = 21
    job.save()
    said = _record(client, job)
    assert f"Epochs 21 epochs quick: {from_preset('pretrain', 'quick').epochs} epochs" in said  # type: ignore[attr-defined]
    assert "CPU threads as many as the machine has" in said, "what was asked for"
    assert "CPU threads 2" in said, "what it became"
    assert "PyTorch 2.15.0" in said


def test_the_record_says_which_fields_an_input_said_and_which_had_no_effect(client: Client, make_job: JobMaker) -> None:
    encoder = make_job("pretrain", State.DONE)
    job = make_job("segment", State.DONE)
    job.inputs["encoder"] = {"job": encoder.pk, "artifact": "encoder"}
    job.save()
    said = _record(client, job)
    assert "Architecture taken from the encoder" in said
    idle = said.partition("Without effect ")[2].partition(" Run ")[0]
    assert "Patience" in idle.split(", "), "the preset quick has no plateau"
    assert "Patience" not in said.replace(idle, ""), "it is named once, among its like"


def test_an_old_specification_that_no_longer_loads_is_shown_as_it_was(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.DONE, spec={"kind": "pretrain", "version": 1, "forgotten_field": "as it was"})
    assert "as it was" in client.get(f"/jobs/{job.pk}/").content.decode()


def test_the_record_says_each_thing_once_and_nothing_that_goes_stale(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.RUNNING, record=RECORD, device="cuda:0", step=495, checkpoint_step=480)
    said = _record(client, job)
    assert "Device cuda:0, NVIDIA H200" in said
    assert "Steps 495 of 600" in said
    assert "480" not in said, "the checkpoint moves on; the live strip says it"
    assert said.index("Cristae 0.1.0 (9cde28763a68)") < said.index("PyTorch 2.15.0")
    assert said.count("Device") == 1
    assert "b957cccc\u2026" in said
    whole = RECORD["inputs"]["dataset"]  # type: ignore[index]
    assert f'title="Copy sha256 {whole}"' in client.get(f"/jobs/{job.pk}/").content.decode()


def test_the_whole_record_is_a_file_for_those_who_may_see_the_job(
    client: Client, seen_by: Page, charlie: User, make_job: JobMaker, revision: Revision, say: EventMaker
) -> None:
    job = make_job("segment", State.DONE, record=RECORD, results={"foreground_iou": 0.8}, name="Mitochondrien \u00fc")
    made = keep(job, say, b"weights", name="segmenter.safetensors", media_type="application/octet-stream")
    answer = client.get(f"/jobs/{job.pk}/record.json")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="job-{job.pk}-record.json"'
    assert "Mitochondrien \u00fc" in answer.content.decode(), "a person reads it too"
    record = answer.json()
    assert record["spec"] == job.spec
    assert record["results"] == {"foreground_iou": 0.8}
    assert record["record"]["torch"] == "2.15.0"
    taken = {"sha256": RECORD["inputs"]["dataset"], "dataset": "Lucchi", "number": 1, "revision": revision.pk}  # type: ignore[index]
    assert record["inputs"] == {"dataset": taken}
    assert [(file["name"], file["sha256"]) for file in record["files"]] == [("segmenter.safetensors", made.sha256)]
    assert seen_by(charlie).get(f"/jobs/{job.pk}/record.json").status_code == 404


def test_a_reading_of_an_upload_has_a_record_as_well(client: Client, make_job: JobMaker) -> None:
    job = make_job(
        "cam",
        State.DONE,
        spec={"kind": "intake", "version": 1, "filename": "lucchi.zip"},
        inputs={"upload": {"upload": "6f0c"}},
        record={"host": "lab", "python": "3.11.7"},
    )
    Job.objects.filter(pk=job.pk).update(kind="intake")
    assert "upload upload 6f0c" in _record(client, job)
    assert client.get(f"/jobs/{job.pk}/record.json").json()["inputs"] == {"upload": {"sha256": "", "upload": "6f0c"}}
