"""Jobs for the counting trainer, and what can be asked of them: shared by the tests of the queue."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from webapp.datasets.models import Dataset, Revision
from webapp.jobs.models import Job
from webapp.jobs.services import job_submit
from webapp.projects.models import Project, User

TRAINER = f"{sys.executable} {Path(__file__).parent / 'trainers' / 'counting.py'}"


def wait_until(true: Callable[[], Any], *, seconds: float = 30.0, what: str = "it") -> Any:
    """Returns the first true answer; fails when none came in time."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)
    return answer


def make_revision(project: Project, name: str = "Lucchi") -> Revision:
    """A revision whose manifest is in the storage, with no images behind it: the counting trainer looks at none."""
    manifest = f'{{"classes":{{}},"name":"{name}","version":1}}\n'.encode()
    digest = hashlib.sha256(manifest).hexdigest()
    path = Path(settings.BLOBS) / digest[:2] / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(manifest)
    dataset = Dataset.objects.create(project=project, name=name)
    return Revision.objects.create(dataset=dataset, number=1, manifest=digest, items_count=20, change="Made.")


def pretrain(revision: Revision, *, user: User | None = None, **given: Any) -> Job:
    """Submits a pretraining, which the counting trainer only counts."""
    fields = {name: given.pop(name) for name in list(given) if name in ("epochs", "seed", "encoder")}
    spec = {"kind": "pretrain", "preset": "own", "views": "byol", "epochs": 1, **fields}
    inputs = {"dataset": {"revision": revision.pk}, **given.pop("inputs", {})}
    return job_submit(project=revision.dataset.project, user=user, spec=spec, inputs=inputs, **given)


def steps_of(job: Job, name: str = "loss/train") -> list[int]:
    """The steps of the curve as a page draws it: for one step, the highest epoch's point."""
    points = job.events.filter(kind="point", name=name).order_by("step", "-epoch").values_list("step", flat=True)
    return list(dict.fromkeys(points))


def assert_curve_is_whole(job: Job, steps: int) -> None:
    """Every step is there once, and within an attempt steps only rise."""
    assert steps_of(job) == list(range(1, steps + 1))
    said: dict[int, list[int]] = {}
    for epoch, step in job.events.filter(kind="point").order_by("id").values_list("epoch", "step"):
        said.setdefault(epoch, []).append(step)
    for epoch, own in said.items():
        assert own == list(range(own[0], own[-1] + 1)), f"attempt {epoch} of {job} has a gap, a double or a step back"


@dataclass(frozen=True)
class Counting:
    """The side of the counting trainer: how it is to behave, what it did."""

    folder: Path

    def behave(self, job: Job | None = None, **asked: Any) -> None:
        name = f"job-{job.pk}.json" if job else "behaviour.json"
        temporary = self.folder / f".{name}"
        temporary.write_text(json.dumps(asked))
        temporary.replace(self.folder / name)

    def audit(self, job: Job | None = None) -> list[dict[str, Any]]:
        """What trainers noted, in order of the boot clock."""
        path = self.folder / "audit.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        rows = [json.loads(line) for line in lines]
        return sorted((r for r in rows if job is None or r["job"] == job.pk), key=lambda r: r["at"])

    def runs(self, job: Job | None = None) -> list[tuple[float, float, int, int]]:
        """(first sign, last sign, job, epoch) of every trainer process, by its first sign."""
        found: dict[tuple[int, int, int], list[float]] = {}
        for row in self.audit(job):
            found.setdefault((row["job"], row["epoch"], row["pid"]), []).append(row["at"])
        return sorted((min(at), max(at), key[0], key[1]) for key, at in found.items())

    def overlaps(self, job: Job | None = None) -> list[tuple[Any, Any]]:
        """Pairs of trainers that were alive at the same time."""
        runs = self.runs(job)
        return [(a, b) for a, b in itertools.pairwise(runs) if b[0] <= a[1]]
