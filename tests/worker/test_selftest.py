"""A worker's part of the self-test, with a trainer started as a job's is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pytest_django import Settings

from webapp.doctor import selftest
from webapp.doctor.selftest import Step
from worker import selftest as selftest_module


@pytest.fixture
def device(settings: Settings) -> None:
    settings.DEVICES = ["cpu"]


def _asked(queue: str) -> Step:
    """The step of `queue` after the worker's answer."""
    ticket = selftest.selftest_start()
    selftest_module.answer(ticket, queue=queue)
    steps = selftest.selftest_steps(ticket)
    assert steps is not None
    return next(step for step in steps if step.name == selftest._WORK[queue])


def _trainer(tmp_path: Path, settings: Settings, text: str) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(text)
    settings.TRAINER = f"{sys.executable} {script}"


def test_a_queue_without_trainers_only_says_that_its_worker_lives(transactional_db: None) -> None:
    step = _asked("io")
    assert step.state == "done"
    assert "took the test" in step.sentence


def test_a_trainer_that_finds_an_error_fails_the_test_with_its_sentence(
    transactional_db: None, device: None, tmp_path: Path, settings: Settings
) -> None:
    said = "ok       All is here.\nerror    A training step on cpu is off.\n"
    _trainer(tmp_path, settings, f"import sys\nassert sys.argv[1] == 'doctor'\nprint({said!r})\nsys.exit(1)")
    step = _asked("device")
    assert step.state == "failed"
    assert step.sentence.endswith("Its trainer failed: A training step on cpu is off.")


def test_a_trainer_that_dies_without_a_word_of_the_kind_fails_with_its_last_line(
    transactional_db: None, device: None, tmp_path: Path, settings: Settings
) -> None:
    _trainer(tmp_path, settings, "import no_such_library")
    step = _asked("device")
    assert step.state == "failed"
    assert "no_such_library" in step.sentence


def test_a_trainer_that_says_nothing_is_ended_when_its_time_is_over(
    transactional_db: None, device: None, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "TRAINER_SECONDS", 0)
    _trainer(tmp_path, settings, "import time\ntime.sleep(600)")
    step = _asked("device")
    assert step.state == "failed"
    assert "no answer" in step.sentence


@pytest.mark.slow
def test_a_real_trainer_computes_a_training_step_and_says_on_what(
    transactional_db: None, device: None, settings: Settings
) -> None:
    settings.TRAINER = "process"
    step = _asked("device")
    assert step.state == "done", step.sentence
    assert "A small training step on cpu gives the gradient that float64 gives." in step.sentence
