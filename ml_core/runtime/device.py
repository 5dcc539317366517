"""Chooses the device, the precision and the number of threads."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import torch

from ml_core.errors import UserError

_PACKAGES = ("torch", "torchvision", "segmentation-models-pytorch", "grad-cam", "numpy")


def choose_device() -> torch.device:
    """The device that `CRISTAE_DEVICE` names (`cpu`, `cuda:<n>`), else the best there is.

    Raises UserError where the named device is not there.
    """
    wanted = os.environ.get("CRISTAE_DEVICE", "")
    if not wanted:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(f"CRISTAE_DEVICE is {wanted!r}; it must be cpu or cuda:<number>.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            raise UserError(
                f"CRISTAE_DEVICE is {wanted}, but torch sees {count} GPU(s). Check the driver, or set it to cpu."
            )
        return torch.device("cuda", device.index or 0)
    if device.type != "cpu":
        raise UserError(f"CRISTAE_DEVICE is {wanted!r}; it must be cpu or cuda:<number>.")
    return device


def computes_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware; where it does not, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return any(_cpu_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _cpu_capabilities() -> Mapping[str, Any]:
    """What the CPU can do; empty before torch 2.15, which then means float32."""
    ask: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return ask()


def choose_precision(device: torch.device, wanted: Literal["auto", "float32", "bfloat16"]) -> torch.dtype:
    if wanted == "auto":
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def set_threads(wanted: int) -> int:
    """Makes torch compute with `wanted` threads, 0 for as many as this process may use; returns the number."""
    count = wanted or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    return count


def device_name(device: torch.device) -> str:
    """The device's name for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = _cpu_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return f"CPU {name}"


def describe() -> dict[str, Any]:
    """Host and versions, for the run record."""
    facts: dict[str, Any] = {"host": socket.gethostname(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts
