"""Broken files of every format: each is read, or refused with what is wrong and what to do. Nothing else happens.

`make fuzz` tries 10,000 of them with a new seed, which it prints; CRISTAE_FUZZ_SEED=<seed> tries the same ones again.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ml_core.data.formats.decoder import Decoder
from ml_core.data.formats.readers import Refused
from ml_core.errors import UserError
from ml_core.job.context import PlainContext
from ml_core.job.inputs import Inputs, Slot
from ml_core.job.reporting import EventFile
from ml_core.recipes import intake
from ml_core.specs import IntakeSpec
from tests.fuzz import corpus

SECONDS = 10.0


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(seconds=SECONDS)
    yield decoder
    decoder.close()


def seed_of_the_day() -> int:
    seed = int(os.environ.get("CRISTAE_FUZZ_SEED", time.time_ns() % 2**32))
    print(f"CRISTAE_FUZZ_SEED={seed}")
    return seed


def try_images(decoder: Decoder, folder: Path, *, count: int, seed: int) -> Counter[str]:
    """Looks into `count` broken files and counts what came of them."""
    chance = np.random.default_rng(seed)
    good = corpus.images(folder)
    thumbnails = folder / "thumbnails"
    thumbnails.mkdir()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        name = list(good)[number % len(good)]
        path = folder / "broken"
        path.write_bytes(corpus.mutated(good[name], chance, others=list(good.values())))
        began = time.monotonic()
        said: tuple[object, ...] = ()
        try:
            pages = decoder.inspect_file(path, name=name, mask=number % 5 == 0, thumbnails=thumbnails, size=32)
            outcomes["read"] += 1
            assert pages
        except Refused as refused:
            outcomes["refused"] += 1
            outcomes["decoder died"] += "decoder crash" in refused.reason
            said = (number, name, refused.reason, refused.remedy)
        assert all(str(text).endswith(".") for text in said[2:]), said
        assert time.monotonic() - began < SECONDS + 5, (number, name)
    return outcomes


def try_archives(folder: Path, *, count: int, seed: int) -> Counter[str]:
    """Runs the whole recipe on `count` broken archives, one attempt's folder each."""
    chance = np.random.default_rng(seed)
    good = corpus.archives(folder)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        name = list(good)[number % len(good)]
        work = folder / f"work-{number}"
        work.mkdir()
        (work / "upload").write_bytes(corpus.mutated(good[name], chance, others=list(good.values())))
        sentence = "."
        before = sorted(p for p in folder.rglob("*") if work not in p.parents)
        try:
            report = take_in(work, filename=name)
            outcomes["read"] += 1
            for entry in report["refused"]:
                assert entry["reason"].endswith("."), (number, name, entry)
                assert entry["remedy"].endswith("."), (number, name, entry)
                assert entry["name"].isprintable(), (number, name, entry)
        except UserError as error:
            outcomes["refused"] += 1
            sentence = str(error)
        assert sentence.endswith("."), (number, name, sentence)
        assert sorted(p for p in folder.rglob("*") if work not in p.parents) == before, (number, name)
    return outcomes


def take_in(work: Path, *, filename: str) -> dict[str, list[dict[str, str]]]:
    events = EventFile(work)
    inputs = Inputs(prepared=work, slots={"upload": Slot("upload", {"path": str(work / "upload")})})
    try:
        intake.run(PlainContext(spec=IntakeSpec(filename=filename), inputs=inputs, folder=work, reporter=events))
    finally:
        events.close()
    found: dict[str, list[dict[str, str]]] = json.loads((work / "report.json").read_bytes())
    return found


@pytest.mark.slow
def test_the_good_files_are_read(decoder, tmp_path):
    (tmp_path / "thumbnails").mkdir()
    for name, content in corpus.images(tmp_path).items():
        (tmp_path / "good").write_bytes(content)
        assert decoder.inspect_file(
            tmp_path / "good", name=name, mask=False, thumbnails=tmp_path / "thumbnails", size=32
        ), name
    for name, content in corpus.archives(tmp_path).items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "upload").write_bytes(content)
        assert take_in(tmp_path / name, filename=name)["refused"] == [], name


@pytest.mark.slow
def test_broken_files_are_read_or_refused_and_kill_nothing(decoder, tmp_path):
    outcomes = try_images(decoder, tmp_path, count=470, seed=1)
    assert outcomes["decoder died"] == 0
    assert outcomes["refused"] > 100


@pytest.mark.slow
def test_broken_archives_are_read_or_refused_and_put_nothing_elsewhere(tmp_path):
    outcomes = try_archives(tmp_path, count=30, seed=2)
    assert outcomes.total() == 30


@pytest.mark.fuzz
@pytest.mark.timeout(1500)
def test_ten_thousand_broken_files(decoder, tmp_path):
    seed = seed_of_the_day()
    looked = try_images(decoder, tmp_path, count=9400, seed=seed)
    (tmp_path / "archives").mkdir()
    archived = try_archives(tmp_path / "archives", count=600, seed=seed + 1)
    print(f"files: {dict(looked)}; archives: {dict(archived)}")
    assert looked["decoder died"] == 0
