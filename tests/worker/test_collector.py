"""Each line that a trainer writes is in the database once, whatever happens between."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from tests.counting import make_revision, pretrain
from webapp.jobs.lifecycle.leases import Fenced, job_claim
from webapp.jobs.lifecycle.transitions import job_transition
from webapp.jobs.models import Artifact, Job, State
from webapp.projects.models import Project
from worker import collector
from worker.collector import Collector, EventReader


def point(step: int, **more: Any) -> bytes:
    said = {"seq": step, "time": 1.0, "kind": "point", "name": "loss/train", "step": step, "value": 0.5, **more}
    return json.dumps(said).encode() + b"\n"


@pytest.fixture
def job(project: Project) -> Job:
    pretrain(make_revision(project))
    claimed = job_claim("device", worker="w", device="cpu")
    assert claimed
    return claimed


def points(job: Job) -> list[tuple[int, int | None]]:
    return list(job.events.filter(kind="point").order_by("id").values_list("epoch", "step"))


def test_a_torn_last_line_is_left_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.peek() == []
    path.write_bytes(point(1) + point(2)[:10])
    lines = reader.peek()
    assert [number for number, _ in lines] == [1]
    reader.advance(lines)
    path.write_bytes(point(1) + point(2) + point(3))
    assert [number for number, _ in reader.peek()] == [2, 3]


def test_a_line_longer_than_one_read_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_LARGEST_READ", 16)
    (tmp_path / "events.jsonl").write_bytes(point(1) + point(2))
    reader = EventReader(tmp_path / "events.jsonl")
    lines = reader.peek()
    reader.advance(lines)
    assert lines + reader.peek() == [(1, point(1)), (2, point(2))]


def test_lines_whose_commit_was_not_heard_of_are_not_written_twice(job: Job, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(point(1) + point(2))
    Collector(job, tmp_path).collect_all()
    with open(tmp_path / "events.jsonl", "ab") as file:
        file.write(point(3))
    Collector(job, tmp_path).collect_all()  # begins at the first line again, as after a lost answer
    assert points(job) == [(1, 1), (1, 2), (1, 3)]


def test_a_batch_is_written_whole_or_not_at_all(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.jsonl").write_bytes(point(1) + point(2))
    found = Collector(job, tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(collector, "_enter_files", lambda events: (_ for _ in ()).throw(OperationalError("gone")))
        with pytest.raises(OperationalError):
            found.collect()
    assert points(job) == []
    assert found.collect() == 2
    assert points(job) == [(1, 1), (1, 2)]


def test_a_fenced_worker_writes_nothing(job: Job, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(point(1))
    job_transition(job.pk, to=State.QUEUED)
    with pytest.raises(Fenced):
        Collector(job, tmp_path).collect()
    job_claim("device", worker="other", device="cpu")
    with pytest.raises(Fenced):
        Collector(job, tmp_path).collect()
    assert points(job) == []


def artifact(folder: Path, content: bytes, **more: Any) -> bytes:
    (folder / "a.bin").write_bytes(content)
    said = {"time": 1.0, "kind": "artifact", "artifact": "encoder", "name": "a.bin", "path": "a.bin"}
    said |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "facts": {"n": 1}, **more}
    return json.dumps(said).encode() + b"\n"


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"sha256": "0" * 64}, "has changed since it was announced"),
        ({"path": "gone.bin"}, "is not there"),
        ({"path": "../outside.bin"}, "outside of the job's folder"),
        ({"path": "/etc/passwd"}, "outside of the job's folder"),
    ],
)
def test_a_file_that_is_not_what_was_announced_becomes_no_artifact(
    job: Job, tmp_path: Path, more: dict[str, Any], fault: str
) -> None:
    folder = tmp_path / "epoch-1"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(b"secret")
    line = artifact(folder, f"content for {fault} {more}".encode(), **more)
    (folder / "events.jsonl").write_bytes(line)
    Collector(job, folder).collect_all()
    assert not Artifact.objects.exists()
    assert fault in job.events.get(kind="artifact").data["fault"]


def test_an_artifact_is_kept_with_its_facts_once(job: Job, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(artifact(tmp_path, b"weights"))
    Collector(job, tmp_path).collect_all()
    Collector(job, tmp_path).collect_all()
    made = Artifact.objects.get()
    assert (made.kind, made.size, made.facts, made.epoch) == ("encoder", 7, {"n": 1}, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"null\n",
        b"[]\n",
        b'{"kind": "state", "data": {"to": "done"}}\n',
        b'{"kind": "point", "name": "x", "step": 1e300, "value": 1}\n',
        b'{"kind": "point", "name": "x", "step": 1, "value": {}}\n',
        b'{"kind": "point", "name": "x", "step": 1, "value": 1, "time": 1e99}\n',
        b'{"kind": "artifact", "artifact": "x", "name": "x", "path": "x", "sha256": "short", "size": 1}\n',
        b'{"kind": "results", "data": 5}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_line_that_breaks_the_contract_is_named_and_the_next_one_counts(
    job: Job, tmp_path: Path, line: bytes
) -> None:
    (tmp_path / "events.jsonl").write_bytes(line + point(2))
    Collector(job, tmp_path).collect_all()
    assert points(job) == [(1, 2)]
    assert "Line 1" in job.events.get(kind="note").data["text"]
    assert Job.objects.get(pk=job.pk).state == State.RUNNING


def test_the_row_keeps_the_last_value_so_that_a_list_of_jobs_reads_no_curve(job: Job, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(point(1) + point(2, value=0.25))
    Collector(job, folder=tmp_path).collect_all()
    job.refresh_from_db()
    assert job.watched == {"name": "loss/train", "value": 0.25}
