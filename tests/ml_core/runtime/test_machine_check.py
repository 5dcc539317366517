"""The doctor says what computes here, and finds what would spoil a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_core.__main__ import main
from ml_core.runtime import machine_check


def _said(folder: Path) -> dict[str, str]:
    return {finding.sentence: finding.level for finding in machine_check.findings(folder)}


def test_a_machine_that_can_train_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--folder", str(tmp_path / "runs" / "not-yet")]) == 0
    said = capsys.readouterr().out
    assert f"torch {torch.__version__}" in said
    assert "A small training step on cpu gives the gradient that float64 gives." in said
    assert f"free in {tmp_path}" in said


def test_a_device_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRISTAE_DEVICE", "cuda:99")
    assert main(["doctor", "--folder", str(tmp_path)]) == 1
    assert "CRISTAE_DEVICE is cuda:99" in capsys.readouterr().out


def test_a_device_that_computes_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.nn.functional.conv2d

    def wrong(x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        return right(x * 1.01 if x.dtype == torch.float32 else x, *arguments, **named)

    assert machine_check.self_test(torch.device("cpu")) < 1e-5
    monkeypatch.setattr(torch.nn.functional, "conv2d", wrong)
    found = [sentence for sentence, level in _said(tmp_path).items() if level == "error"]
    assert len(found) == 1
    assert "do not trust its results" in found[0]


def test_a_device_that_fails_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch.nn.functional, "conv2d", broken)
    assert any("failed: no kernel image is available" in sentence for sentence in _said(tmp_path))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_check, "PACKAGES", ("numpy", "no-such-package"))
    assert _said(tmp_path)["Not installed: no-such-package. Install requirements/worker.txt."] == "error"


@pytest.mark.parametrize(("free", "level"), [(0.5, "error"), (5, "warning"), (50, "ok")])
def test_little_room_on_the_disk_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, level: str
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free * machine_check.GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert [said for sentence, said in _said(tmp_path).items() if "GiB free in" in sentence] == [level]


def test_an_old_torch_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu126")
    assert any("needs torch 2.11 or later" in s and level == "error" for s, level in _said(tmp_path).items())
