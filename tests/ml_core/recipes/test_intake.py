"""The recipe intake: one upload into blobs, thumbnails and a list, whatever is in it."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ml_core.data.formats import decoder as decoder_module
from ml_core.data.formats.decoder import Decoder
from ml_core.data.formats.readers import Refused
from ml_core.errors import Stopped, UserError
from ml_core.job.context import PlainContext
from ml_core.job.files import sha256_of
from ml_core.job.inputs import Inputs, Slot
from ml_core.job.reporting import EventFile, StopFlag
from ml_core.recipes import intake
from ml_core.specs import IntakeSpec


def picture(seed: int = 0, *, mask: bool = False) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (50, 40)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.where(pixels > 200, 255, 0).astype(np.uint8) if mask else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return path


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Runs the recipe on a file and returns its pages and its report."""

    def read(source: Path, *, filename: str = "", control: StopFlag | None = None) -> tuple[list[Any], dict[str, Any]]:
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        events = EventFile(folder, control=control)
        inputs = Inputs(prepared=folder, slots={"upload": Slot("upload", {"path": str(source)})})
        spec = IntakeSpec(filename=filename or source.name)
        intake.run(PlainContext(spec=spec, inputs=inputs, folder=folder, reporter=events))
        events.close()
        lines = (folder / "items.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines], json.loads((folder / "report.json").read_bytes())

    return read


def test_every_file_becomes_a_blob_under_its_hash_with_a_thumbnail(read, tmp_path):
    pages, report = read(
        archive(tmp_path / "a.zip", {"images/a.png": picture(1), "masks/a.png": picture(1, mask=True)})
    )
    assert [(p["name"], p["mask"]) for p in pages] == [("images/a.png", False), ("masks/a.png", True)]
    blobs = tmp_path / "work" / "blobs"
    assert {path.name for path in blobs.iterdir()} == {pages[0]["sha256"], pages[1]["sha256"], pages[0]["thumbnail"]}
    assert all(path.name == sha256_of(path) for path in blobs.iterdir())
    assert sum(pages[1]["values"].values()) == 2000
    assert (report["files"], report["refused"]) == (2, [])
    progress = [json.loads(e) for e in (tmp_path / "work" / "events.jsonl").read_text().splitlines()]
    assert [(e["done"], e["total"], e["unit"]) for e in progress if e["kind"] == "progress"][-1] == (2, 2, "files")


def test_a_single_file_needs_no_archive(read, tmp_path):
    (tmp_path / "upload").write_bytes(picture())
    pages, _ = read(tmp_path / "upload", filename="slice.png")
    assert [p["name"] for p in pages] == ["slice.png"]


def test_one_bad_file_is_refused_by_name_and_the_rest_goes_in(read, tmp_path):
    files = {
        "good.png": picture(),
        "empty.png": b"",
        "text.tif": b"hello",
        "README.md": b"about",
        "cut.png": picture()[:80],
    }
    pages, report = read(archive(tmp_path / "a.zip", files))
    assert [p["name"] for p in pages] == ["good.png"]
    assert {r["name"] for r in report["refused"]} == {"empty.png", "text.tif", "cut.png"}
    assert all(r["reason"] and r["remedy"] for r in report["refused"])
    assert report["left_out"] == ["README.md"]


def test_an_attempt_that_starts_again_in_its_folder_starts_clean(read, tmp_path):
    stray = tmp_path / "work" / "blobs" / "stray"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"of an attempt that was killed")
    source = archive(tmp_path / "a.zip", {"a.png": picture()})
    assert read(source)[0] == read(source)[0]
    assert not stray.exists()


def test_a_stop_is_heard_between_two_files(read, tmp_path):
    flag = StopFlag()
    flag.stop_wanted = True
    with pytest.raises(Stopped):
        read(archive(tmp_path / "a.zip", {"a.png": picture()}), control=flag)


TRICKS = [
    "../evil.png",
    "/etc/evil.png",
    "a/../../evil.png",
    "..\\evil.png",
    "C:/evil.png",
    "a\u202egnp.exe.png",
    "a\nb.png",
    "x" * 400 + ".png",
    "inner.zip",
]


def test_names_that_lead_elsewhere_put_no_file_anywhere(read, tmp_path):
    before = set(tmp_path.rglob("*"))
    source = archive(tmp_path / "a.zip", dict.fromkeys(TRICKS, picture()) | {"good.png": picture(5)})
    pages, report = read(source)
    assert [p["name"] for p in pages] == ["good.png"]
    assert len(report["refused"]) == len(TRICKS)
    outside = set(tmp_path.rglob("*")) - before
    assert {p for p in outside if "work" not in p.parts} == {source}


def test_links_encrypted_files_and_twins_are_refused(read, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc/passwd")
        zipped.writestr("same.png", picture(1))
        with pytest.warns(UserWarning, match="Duplicate"):
            zipped.writestr("same.png", picture(2))
    pages, report = read(tmp_path / "a.zip")
    assert [p["name"] for p in pages] == ["same.png"]
    assert {r["name"] for r in report["refused"]} == {"link.png", "same.png"}


def test_archive_bombs_are_refused_before_anything_is_unpacked(read, tmp_path):
    with zipfile.ZipFile(tmp_path / "ratio.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a.tif", bytes(10**7))
    content = bytearray((tmp_path / "ratio.zip").read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 3 * 10**9)
    (tmp_path / "ratio.zip").write_bytes(bytes(content))
    many = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFE, 0xFFFE, 2**31, 0, 0)
    (tmp_path / "many.zip").write_bytes(b"PK\x03\x04" + bytes(100) + many)
    (tmp_path / "cut.zip").write_bytes((archive(tmp_path / "c.zip", {"a.png": picture()})).read_bytes()[:-30])
    for name in ("ratio.zip", "many.zip", "cut.zip"):
        began = time.monotonic()
        with pytest.raises(UserError):
            read(tmp_path / name)
        assert time.monotonic() - began < 5
        assert list((tmp_path / "work").rglob("blobs/*")) == []


def test_a_file_that_kills_its_decoder_is_refused_and_the_next_gets_a_new_one(tmp_path):
    decoder = Decoder()
    (tmp_path / "a.png").write_bytes(picture())
    ask = {"mask": False, "thumbnails": tmp_path, "size": 16}
    try:
        child = decoder._started()
        os.kill(child.pid, 9)
        with pytest.raises(Refused, match="crash"):
            decoder._answer(child)
        assert len(decoder.inspect_file(tmp_path / "a.png", name="a.png", **ask)) == 1
    finally:
        decoder.close()


@pytest.mark.slow
def test_a_file_that_takes_for_ever_is_refused(tmp_path):
    decoder = Decoder(seconds=1)
    (tmp_path / "a.png").write_bytes(picture())
    try:
        started = decoder._started()
        os.kill(started.pid, 19)
        with pytest.raises(Refused, match="longer than 1 s"):
            decoder.inspect_file(tmp_path / "a.png", name="a.png", mask=False, thumbnails=tmp_path, size=16)
    finally:
        decoder.close()


def test_a_decoder_that_wants_too_much_memory_is_told_so(tmp_path, monkeypatch):
    def greedy(path: Path, **_: object) -> Any:
        np.ones(2**34, np.uint8)
        yield {}

    monkeypatch.setattr(decoder_module, "inspect_file", greedy)
    monkeypatch.setattr(decoder_module.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(np, "ones", lambda *_: (_ for _ in ()).throw(MemoryError))
    question = {"path": "a", "name": "a", "mask": False, "thumbnails": "t", "size": 16}
    answers = io.BytesIO()
    decoder_module._serve(io.BytesIO(json.dumps(question).encode()), answers)
    assert "too much memory" in answers.getvalue().decode()
