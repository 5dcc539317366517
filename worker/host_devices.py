"""The devices of this host, and who may use one: a slot per device, held by a lock that the kernel lets go of."""

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
    """`cuda:0`, `cuda:1`, ... as the trainers will count them, or `cpu`; what CRISTAE_DEVICES names where it is set."""
    return list(settings.DEVICES) or [f"cuda:{n}" for n in range(_count_gpus())] or [CPU]


def _count_gpus() -> int:
    """Asks the driver's own tool: this process must not load torch."""
    visible = _visible_gpus()
    return sum(line.startswith("GPU ") for line in _nvidia_smi("-L")) if visible is None else len(visible)


def _visible_gpus() -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES lets this process see, by number or UUID; None where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    # The driver stops counting at the first entry that is no device, as -1 is.
    names = [name.strip() for name in visible.split(",")]
    return list(itertools.takewhile(lambda name: name and name != "-1", names))


def _nvidia_smi(*asked: str, timeout: float = 30) -> list[str]:
    """The lines of its answer; none where there is no such tool, or it fails."""
    if not shutil.which("nvidia-smi"):
        return []
    try:
        said = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return said.stdout.splitlines() if said.returncode == 0 else []


class Gpu(TypedDict):
    """What pages say of a GPU; bytes."""

    name: str
    driver: str
    """The driver's version."""
    used: int
    total: int


def gpus_of_host() -> dict[str, Gpu]:
    """`cuda:0` -> its name and memory, of every GPU that the trainers will see; empty where the driver says nothing."""
    asked = "--query-gpu=uuid,name,driver_version,memory.used,memory.total"
    lines = _nvidia_smi(asked, "--format=csv,noheader,nounits", timeout=5)
    known = {}
    for number, line in enumerate(lines):
        uuid, name, driver, used, total = (cell.strip() for cell in line.split(","))
        # "[N/A]" where the driver cannot say it, as on machines whose GPU shares the CPU's memory.
        if used.isdecimal() and total.isdecimal():
            gpu = Gpu(name=name, driver=driver, used=int(used) * MIB, total=int(total) * MIB)
            known[str(number)] = known[uuid] = gpu
    visible = _visible_gpus()
    wanted = [str(n) for n in range(len(lines))] if visible is None else visible
    return {f"cuda:{place}": known[each] for place, each in enumerate(wanted) if each in known}


def memory_of_host() -> dict[str, int]:
    """What Linux says of its memory, in bytes: {"free", "total"}; free is what programs can still take.

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
