"""An intake that is killed or stopped goes on where it was: every file once, none lost."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from ml_core.errors import Stopped
from ml_core.job import checkpoints
from ml_core.job.context import PlainContext
from ml_core.job.files import sha256_of
from ml_core.job.inputs import Inputs, Slot
from ml_core.job.reporting import EventFile, StopFlag
from ml_core.recipes import intake
from ml_core.specs import IntakeSpec
from tests.fuzz.corpus import picture, tarred, tiff, zipped

pytestmark = pytest.mark.slow

COUNT, EVERY = 40, 5


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 40)).astype(np.uint8)


def files() -> dict[str, bytes]:
    """Forty images, two that cannot be read and a table, in an order that mixes them."""
    made = {f"set/{n:03d}.png": picture(pixels(n), "PNG") for n in range(COUNT)}
    made |= {"set/003b.png": b"broken", "set/031b.png": b""}
    made |= {"set/000-labels.csv": b"file,label\n001.png,mouse\n", "set/002-notes.csv": b"step,loss\n1,2\n"}
    return dict(sorted(made.items()))


def attempt(
    source: Path, folder: Path, *, resume: Path | None = None, control: StopFlag | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    events = EventFile(folder, control=control)
    inputs = Inputs(prepared=folder, resume=resume, slots={"upload": Slot("upload", {"path": str(source)})})
    try:
        spec = IntakeSpec(filename=source.name)
        intake.run(PlainContext(spec=spec, inputs=inputs, folder=folder, reporter=events))
    finally:
        events.close()
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    return items, json.loads((folder / "report.json").read_bytes())


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]


class StopAfter(StopFlag):
    """Asks for an end once so many checkpoints are there."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count

    @property
    def stop_wanted(self) -> bool:  # type: ignore[override]
        newest = checkpoints.listed(self._folder / "checkpoints")
        return bool(newest) and checkpoints.step_of(newest[0]) >= self._count * EVERY


@pytest.fixture(params=["zip", "tar.gz"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(intake, "FILES_PER_CHECKPOINT", EVERY)
    path = tmp_path / f"set.{request.param}"
    path.write_bytes(zipped(files()) if request.param == "zip" else gzip.compress(tarred(files())))
    return path


def test_a_stopped_intake_goes_on_and_ends_as_if_nothing_had_happened(source, tmp_path):
    whole, report = attempt(source, tmp_path / "undisturbed")
    first, second = tmp_path / "epoch-1", tmp_path / "epoch-2"
    with pytest.raises(Stopped, match="goes on where it was"):
        attempt(source, first, control=StopAfter(first, 3))
    resume = checkpoints.newest(first / "checkpoints")
    assert resume is not None
    items, again = attempt(source, second, resume=resume)
    assert items == whole
    assert again == report
    assert again["left_out"] == ["set/002-notes.csv"]
    assert (second / "tables.jsonl").read_bytes() == (tmp_path / "undisturbed" / "tables.jsonl").read_bytes()
    assert {path.name for path in (second / "blobs").iterdir()} == {
        path.name for path in (tmp_path / "undisturbed" / "blobs").iterdir()
    }
    assert all(path.name == sha256_of(path) for path in (second / "blobs").iterdir())
    began = next(event for event in events_of(second) if event["kind"] == "progress")
    assert began["done"] == checkpoints.step_of(resume), "what was read is not read again"


def test_another_upload_in_its_place_is_read_from_the_start(source, tmp_path):
    first = tmp_path / "epoch-1"
    with pytest.raises(Stopped):
        attempt(source, first, control=StopAfter(first, 2))
    other = tmp_path / "other.zip"
    other.write_bytes(zipped({"only.png": picture(pixels(99), "PNG")}))
    items, _ = attempt(other, tmp_path / "epoch-2", resume=checkpoints.newest(first / "checkpoints"))
    assert [item["name"] for item in items] == ["only.png"]


def test_an_attempt_whose_files_are_gone_is_started_over_with_a_word(source, tmp_path):
    first = tmp_path / "epoch-1"
    with pytest.raises(Stopped):
        attempt(source, first, control=StopAfter(first, 2))
    (first / "items.part").unlink()
    items, _ = attempt(source, tmp_path / "epoch-2", resume=checkpoints.newest(first / "checkpoints"))
    assert len(items) == COUNT
    assert any("starts over" in event.get("text", "") for event in events_of(tmp_path / "epoch-2"))


KILLED = """
import sys
from pathlib import Path
from tests.ml_core.recipes.test_intake_resume import attempt, intake
intake.FILES_PER_CHECKPOINT = 5
attempt(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_an_intake_killed_outright_loses_and_doubles_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "FILES_PER_CHECKPOINT", EVERY)
    source = tmp_path / "set.zip"
    many = {f"{n:04d}.tif": tiff(pixels(n)) for n in range(200)}
    source.write_bytes(zipped(many))
    resume = None
    for epoch in (1, 2):
        folder = tmp_path / f"epoch-{epoch}"
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(source), str(folder)])
        deadline = time.monotonic() + 60
        while not checkpoints.listed(folder / "checkpoints") and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)  # until the disk shows it
        process.kill()
        process.wait()
        resume = checkpoints.newest(folder / "checkpoints") or resume
    assert resume is not None
    items, _ = attempt(source, tmp_path / "epoch-3", resume=resume)
    assert [item["name"] for item in items] == list(many)
    assert all(
        (tmp_path / "epoch-3" / "blobs" / item[key]).exists() for item in items for key in ("sha256", "thumbnail")
    )


def test_a_lone_stack_is_counted_by_its_slices_and_can_be_stopped_in_it(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([pixels(n) for n in range(30)]), photometric="minisblack")
    items, _ = attempt(tmp_path / "stack.tif", tmp_path / "work")
    assert len(items) == 30
    progress = [event for event in events_of(tmp_path / "work") if event["kind"] == "progress"]
    assert (progress[-1]["done"], progress[-1]["total"], progress[-1]["unit"]) == (30, 30, "slices")


def test_masks_in_casser_s_layout_keep_only_what_they_mark(tmp_path):
    marks = np.where(pixels(1) > 200, 255, np.where(pixels(2) > 200, 2, 0)).astype(np.uint8)
    clean = np.where(marks == 255, 255, 0).astype(np.uint8)
    made = {
        "Kasthuri++/Train_In/mask0000.png": picture(pixels(0), "PNG"),
        "Kasthuri++/Train_Out/mask0000.png": picture(np.stack([marks] * 3, axis=-1), "PNG"),
        "Kasthuri++/Train_In/mask0001.png": picture(pixels(3), "PNG"),
        "Kasthuri++/Train_Out/mask0001.png": picture(clean, "PNG"),
    }
    (tmp_path / "k.zip").write_bytes(zipped(made))
    items, report = attempt(tmp_path / "k.zip", tmp_path / "work")
    masks = {item["name"]: item for item in items if item["mask"]}
    assert all(set(mask["values"]) == {"0", "255"} for mask in masks.values())
    assert masks["Kasthuri++/Train_Out/mask0000.png"]["values"]["255"] == int((marks == 255).sum())
    untouched = masks["Kasthuri++/Train_Out/mask0001.png"]["sha256"]
    assert (tmp_path / "work" / "blobs" / untouched).read_bytes() == made["Kasthuri++/Train_Out/mask0001.png"]
    assert all(path.name == sha256_of(path) for path in (tmp_path / "work" / "blobs").iterdir())
    assert "Kasthuri++" in report["layouts"][0]


@pytest.mark.parametrize("pack", [lambda made: tarred(made), lambda made: gzip.compress(tarred(made)), zipped])
def test_zips_and_tars_of_the_same_files_are_the_same(tmp_path, pack: Callable[[dict[str, bytes]], bytes]):
    (tmp_path / "set.bin").write_bytes(pack(files()))
    items, report = attempt(tmp_path / "set.bin", tmp_path / "work")
    assert [item["name"] for item in items] == [f"set/{n:03d}.png" for n in range(COUNT)]
    assert [entry["name"] for entry in report["refused"]] == ["set/003b.png", "set/031b.png"]


def test_a_tar_that_is_cut_off_gives_what_it_holds_and_says_so(tmp_path):
    content = tarred(files())
    (tmp_path / "a.tar").write_bytes(content[: len(content) // 2])
    items, report = attempt(tmp_path / "a.tar", tmp_path / "plain")
    assert 10 < len(items) < 30
    assert "damaged or cut off" in report["refused"][-1]["reason"]
    packed = gzip.compress(content, compresslevel=0)
    (tmp_path / "a.tar.gz").write_bytes(packed[: len(packed) // 2])
    items, report = attempt(tmp_path / "a.tar.gz", tmp_path / "packed")
    assert 10 < len(items) < 30
    assert "damaged or cut off" in report["refused"][-1]["reason"]
