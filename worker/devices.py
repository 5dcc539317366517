"""The devices of this host, and who may use one: a slot per device, held by a lock that the kernel lets go of."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from webapp.engines import private_folder

CPU = "cpu"


def devices_of_host() -> list[str]:
    """`cuda:0`, `cuda:1`, ... as the trainers will count them, or `cpu`; what CRISTAE_DEVICES names where it is set."""
    return list(settings.DEVICES) or [f"cuda:{n}" for n in range(_count_gpus())] or [CPU]


def _count_gpus() -> int:
    """Asks the driver's own tool: this process must not load torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # The driver stops counting at the first entry that is no device, as -1 is.
        names = [name.strip() for name in visible.split(",")]
        return next((n for n, name in enumerate(names) if not name or name == "-1"), len(names))
    if not shutil.which("nvidia-smi"):
        return 0
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


@dataclass(frozen=True)
class Slot:
    """A place to run one job. `trainer_lock` is the file that its trainer locks, None where trainers need not."""

    device: str
    trainer_lock: Path | None


@contextlib.contextmanager
def device_slot(devices: Sequence[str]) -> Iterator[Slot | None]:
    """The first free device of this host, held until the end; None when all are taken.

    The supervisor holds the slot and the trainer a lock of its own, so a trainer that outlives its supervisor for a
    moment still keeps the next one off the device.
    """
    folder = private_folder(Path(settings.RUN)) / "devices"
    folder.mkdir(mode=0o700, exist_ok=True)
    for device in devices:
        name = device.replace(":", "-")
        with open(folder / f"{name}.slot", "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield Slot(device, folder / f"{name}.lock")
            return
    yield None
