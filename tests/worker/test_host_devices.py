"""What a worker says of its GPUs, asked of the driver's own tool: torch is not at hand here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.host_devices import MIB, devices_of_host, gpus_of_host, memory_of_host

ANSWER = """\
GPU-5f0c1d2e-aaaa, NVIDIA H200, 570.86.15, 61440, 143771
GPU-77aa8b9c-bbbb, NVIDIA RTX A4000, 570.86.15, 3, 16376
GPU-00000000-cccc, NVIDIA GB10, 580.1, [N/A], [N/A]
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with three GPUs, as far as the driver's tool goes."""
    (tmp_path / "answer").write_text(ANSWER)
    listed = "\n".join(f"GPU {n}: {line.split(',')[1]}" for n, line in enumerate(ANSWER.splitlines()))
    (tmp_path / "list").write_text(listed + "\n")
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\nif [ "$1" = -L ]; then cat {tmp_path}/list; else cat {tmp_path}/answer; fi\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tool


def test_each_gpu_says_its_name_and_its_memory(driver: Path) -> None:
    assert devices_of_host() == ["cuda:0", "cuda:1", "cuda:2"]
    assert gpus_of_host() == {
        "cuda:0": {"name": "NVIDIA H200", "driver": "570.86.15", "used": 61440 * MIB, "total": 143771 * MIB},
        "cuda:1": {"name": "NVIDIA RTX A4000", "driver": "570.86.15", "used": 3 * MIB, "total": 16376 * MIB},
    }, "of the third the driver knows no memory"


@pytest.mark.parametrize("visible", ["1,0", "GPU-77aa8b9c-bbbb,0", "1,0,-1,2"])
def test_gpus_are_numbered_as_the_trainers_see_them(
    driver: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices_of_host() == ["cuda:0", "cuda:1"]
    assert [gpu["name"] for gpu in gpus_of_host().values()] == ["NVIDIA RTX A4000", "NVIDIA H200"]


@pytest.mark.parametrize("tool", ["#!/bin/sh\necho NVIDIA-SMI has failed >&2\nexit 9\n", None])
def test_a_machine_without_a_driver_that_answers_has_its_cpu(
    driver: Path, monkeypatch: pytest.MonkeyPatch, tool: str | None
) -> None:
    if tool is None:
        monkeypatch.setenv("PATH", "")
    else:
        driver.write_text(tool)
    assert devices_of_host() == ["cpu"]
    assert gpus_of_host() == {}


def test_a_machine_says_how_much_of_its_memory_programs_can_still_take() -> None:
    memory = memory_of_host()
    assert 0 < memory["free"] < memory["total"]
    assert memory["total"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
