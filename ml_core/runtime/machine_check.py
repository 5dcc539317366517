"""Checks whether this machine can train: installed packages, devices, and whether they compute correctly."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ml_core.errors import UserError
from ml_core.runtime.device import choose_device, computes_bfloat16, device_name, set_threads

PACKAGES = ("torchvision", "segmentation-models-pytorch", "grad-cam", "safetensors", "numpy", "pydantic")
LEAST_TORCH = (2, 11)
GIB = 2**30
ROOM_LEAST = 1 * GIB
ROOM_GOOD = 10 * GIB
"""Bytes of free disk: checkpoints of a ResNet-50 in pretraining take 1 GiB, prepared arrays as much as the images."""
MEMORY_GOOD = 4 * GIB
"""Bytes of free GPU memory: less is free only where another program uses it."""


@dataclass(frozen=True)
class Finding:
    """One sentence. `level` is ok, warning (it will work, with less) or error (it will not)."""

    level: str
    sentence: str


def findings(folder: Path) -> Iterator[Finding]:
    """Runs all checks in turn. `folder` is where runs are to write; nothing is left in it."""
    yield _torch()
    yield from _packages()
    yield _processor()
    yield from _devices()
    yield _disk(folder)


def _torch() -> Finding:
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU"
    found = f"Python {platform.python_version()}, torch {torch.__version__}, built {built}."
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < LEAST_TORCH:
        least = ".".join(str(part) for part in LEAST_TORCH)
        return Finding("error", f"{found} Cristae needs torch {least} or later: install requirements/worker.txt.")
    return Finding("ok", found)


def _packages() -> Iterator[Finding]:
    present, missing = [], []
    for package in PACKAGES:
        try:
            present.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if present:
        yield Finding("ok", f"Installed: {', '.join(present)}.")
    if missing:
        yield Finding("error", f"Not installed: {', '.join(missing)}. Install requirements/worker.txt.")


def _processor() -> Finding:
    cpu = torch.device("cpu")
    threads = set_threads(0)
    cores = os.cpu_count() or threads
    share = f"{threads} threads" if threads == cores else f"{threads} of {cores} cores are this process's"
    precision = "computes bfloat16" if computes_bfloat16(cpu) else "has no bfloat16 and computes float32"
    return Finding("ok", f"{device_name(cpu)}: {share}; it {precision}.")


def _devices() -> Iterator[Finding]:
    """Every device with a small training step on it, and the one that jobs would take."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus:
        yield _no_gpu()
    for device in [torch.device("cpu"), *(torch.device("cuda", number) for number in range(gpus))]:
        if device.type == "cuda":
            yield _memory(device)
        yield _tried(device)
    try:
        yield Finding("ok", f"Jobs compute on {choose_device()}; CRISTAE_DEVICE names another.")
    except UserError as error:
        yield Finding("error", str(error))


def _no_gpu() -> Finding:
    if sys.platform == "linux" and Path("/proc/driver/nvidia/version").exists():
        why = (
            "torch is built without CUDA: install the CUDA build"
            if not torch.version.cuda
            else f"its driver may be older than CUDA {torch.version.cuda} asks, or hidden by CUDA_VISIBLE_DEVICES"
        )
        return Finding("error", f"This machine has an NVIDIA driver, but torch sees no GPU: {why}.")
    return Finding(
        "warning", "No GPU: jobs compute on the CPU. Begin with the preset quick; the others are meant for a GPU."
    )


def _memory(device: torch.device) -> Finding:
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        return Finding("error", f"{device} cannot be asked for its memory: {error}.")
    major, minor = torch.cuda.get_device_capability(device)
    precision = "bfloat16" if computes_bfloat16(device) else "float32 (no bfloat16)"
    found = (
        f"{device_name(device)} ({device}, capability {major}.{minor}, {precision}): {free / GIB:.1f} of "
        f"{total / GIB:.1f} GiB free."
    )
    if free < MEMORY_GOOD:
        return Finding("warning", f"{found} Something else computes there; `nvidia-smi` says what.")
    return Finding("ok", found)


def _tried(device: torch.device) -> Finding:
    try:
        off = self_test(device)
    except Exception as error:  # noqa: BLE001  a broken driver may raise anything; it is reported
        return Finding("error", f"A training step on {device} failed: {error}. Check driver and memory.")
    if off > 1e-3:
        return Finding(
            "error", f"A training step on {device} is off by {off:.1e} of the gradient: do not trust its results."
        )
    return Finding("ok", f"A small training step on {device} gives the gradient that float64 gives.")


def self_test(device: torch.device) -> float:
    """How far a convolution's gradient on `device` is off, relative to float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    weight = torch.randn(8, 3, 3, 3, generator=generator)
    gradients = []
    for place, kind in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
        kernel = weight.to(place, kind).requires_grad_()
        torch.nn.functional.conv2d(x.to(place, kind), kernel, padding=1).relu().square().mean().backward()
        assert kernel.grad is not None
        gradients.append(kernel.grad.to("cpu", torch.float64))
    exact, found = gradients
    return float((found - exact).abs().max() / exact.abs().max())


def _disk(folder: Path) -> Finding:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK):
        return Finding("error", f"{place} cannot be written to. Choose another folder with --folder.")
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free in {place}."
    if free < ROOM_LEAST:
        return Finding("error", f"{found} Free some: a checkpoint may need a GiB.")
    if free < ROOM_GOOD:
        return Finding("warning", f"{found} That is little for checkpoints and prepared images.")
    return Finding("ok", found)
