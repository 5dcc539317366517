"""The devices of this host, with a slot per device, held by a file lock that the kernel releases with the process."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from django.conf import settings

from webapp.local.servers import private_folder

CPU = "cpu"
MIB = 2**20


def devices_of_host() -> list[str]:
    """`cuda:0`, `cuda:1`, ... as trainers number them, or `cpu`; the value of CRISTAE_DEVICES if that is set."""
    return list(settings.DEVICES) or [f"cuda:{n}" for n in range(_count_gpus())] or [CPU]


def _count_gpus() -> int:
    """Counts with the driver's nvidia-smi: this process must not load torch."""
    visible = _visible_gpus()
    return sum(line.startswith("GPU ") for line in _nvidia_smi("-L")) if visible is None else len(visible)


def _visible_gpus() -> list[str] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES allows, by number or UUID; None if it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    # CUDA ignores everything from the first invalid entry on, such as -1.
    names = [name.strip() for name in visible.split(",")]
    return list(itertools.takewhile(lambda name: name and name != "-1", names))


def _nvidia_smi(*asked: str, timeout: float = 30) -> list[str]:
    """The lines that nvidia-smi prints; empty if it is not installed or fails."""
    if not shutil.which("nvidia-smi"):
        return []
    try:
        said = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return said.stdout.splitlines() if said.returncode == 0 else []


class Gpu(TypedDict):
    """Properties of a GPU for pages; memory in bytes."""

    name: str
    driver: str
    """The driver's version."""
    used: int
    total: int


def gpus_of_host() -> dict[str, Gpu]:
    """`cuda:0` -> its name and memory, for every GPU visible to trainers; empty if the driver reports nothing."""
    asked = "--query-gpu=uuid,name,driver_version,memory.used,memory.total"
    lines = _nvidia_smi(asked, "--format=csv,noheader,nounits", timeout=5)
    known = {}
    for number, line in enumerate(lines):
        uuid, name, driver, used, total = (cell.strip() for cell in line.split(","))
        # "[N/A]" if the driver cannot report it, as on machines whose GPU shares the CPU's memory.
        if used.isdecimal() and total.isdecimal():
            gpu = Gpu(name=name, driver=driver, used=int(used) * MIB, total=int(total) * MIB)
            known[str(number)] = known[uuid] = gpu
    visible = _visible_gpus()
    wanted = [str(n) for n in range(len(lines))] if visible is None else visible
    return {f"cuda:{place}": known[each] for place, each in enumerate(wanted) if each in known}


def memory_of_host() -> dict[str, int]:
    """Memory of the host as Linux reports it, in bytes: {"free", "total"}; free is what programs can still allocate.

    Empty on other systems.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    known = {name: int(size.split()[0]) * 1024 for name, _, size in (line.partition(":") for line in lines)}
    if "MemAvailable" not in known:
        return {}
    return {"free": known["MemAvailable"], "total": known["MemTotal"]}


@dataclass(frozen=True)
class Slot:
    """A slot for one job. `trainer_lock` is the file that its trainer locks, None if trainers need no lock."""

    device: str
    trainer_lock: Path | None


@contextlib.contextmanager
def device_slot(devices: Sequence[str]) -> Iterator[Slot | None]:
    """The first free device of this host, held until the context ends; None if all are in use.

    The supervisor holds the slot and the trainer a lock of its own, so that a trainer that outlives its supervisor for
    a moment still keeps the next job off the device.
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
