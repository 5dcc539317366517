"""Each bomb is refused with a reason and a remedy, in under 5 s and 512 MB."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

from ml_core.data.formats.decoder import Decoder
from ml_core.data.formats.image_file import Refused
from ml_core.errors import UserError
from tests.fuzz import bombs
from tests.fuzz.test_mutated_files import take_in

SECONDS, MEMORY = 5.0, 512 * 2**20
ARCHIVES = (".zip", ".tar", ".gz", ".csv")


def peak(pid: int) -> int:
    """The most memory that a process has ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.fixture
def every_bomb(tmp_path: Path) -> dict[str, bytes]:
    if not Path("/proc/self/status").exists():
        pytest.skip("Only Linux tells the most memory that a process has had.")
    return bombs.all_bombs(tmp_path)


@pytest.mark.slow
def test_images_that_are_bombs_are_refused_quickly_and_without_memory(tmp_path, every_bomb):
    chosen = {name: content for name, content in every_bomb.items() if not name.endswith(ARCHIVES)}
    assert len(every_bomb) >= 60
    decoder = Decoder(seconds=SECONDS)
    try:
        for name, content in chosen.items():
            (tmp_path / name).write_bytes(content)
            began = time.monotonic()
            with pytest.raises(Refused) as refused:
                decoder.inspect_file(tmp_path / name, name=name, mask=False, thumbnails=tmp_path, size=32)
            assert time.monotonic() - began < SECONDS, name
            assert "crash" not in refused.value.reason, name
            assert refused.value.reason.endswith("."), name
            assert refused.value.remedy.endswith("."), name
            assert peak(decoder._started().pid) < MEMORY, name
    finally:
        decoder.close()
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_archives_that_are_bombs_are_refused_quickly_and_without_memory(tmp_path, every_bomb):
    before = psutil.Process().memory_info().rss
    for name, content in every_bomb.items():
        if not name.endswith(ARCHIVES):
            continue
        work = tmp_path / f"{name}-work"
        work.mkdir()
        (work / "upload").write_bytes(content)
        began = time.monotonic()
        try:
            said = [(entry["reason"], entry["remedy"]) for entry in take_in(work, filename=name)["refused"]]
            assert not [json.loads(line) for line in (work / "items.jsonl").read_text().splitlines()], name
        except UserError as error:
            said = [(str(error), str(error))]
        assert time.monotonic() - began < SECONDS, name
        assert psutil.Process().memory_info().rss - before < MEMORY, name
        assert said, f"{name} was taken"
        assert all(text.endswith(".") for pair in said for text in pair), (name, said)
