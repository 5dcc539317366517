"""Estimates the memory that a job needs, and reports the memory of the device that it would run on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ml_core.specs import PretrainSpec, SegmentSpec, Spec
from ml_core.specs.architectures import WORKSPACE
from ml_core.specs.segment import REDUCTIONS
from webapp.jobs.models import Queue, device_name

GIB = 2**30

# Counted with torch's saved-tensor hooks, float32, one image of 224 x 224: bytes kept for the backward pass per pixel
# of input, and parameters. `python -m ml_core describe` counts any specification anew; here no torch is loaded.
_ENCODERS = {
    "resnet18": (11.2e6, 443),
    "resnet50": (23.5e6, 1716),
    "attention26": (8.3e6, 1755),
    "attention50": (16.0e6, 3010),
}
# (encoder, decoder, its width): parameters, kept where all is trained, kept on a frozen encoder.
_SEGMENTERS = {
    ("resnet18", "unet", "full"): (14.3e6, 1291, 848),
    ("resnet18", "unet", "half"): (12.5e6, 923, 480),
    ("resnet18", "unetplusplus", "full"): (16.0e6, 3163, 2720),
    ("resnet18", "unetplusplus", "half"): (14.0e6, 2795, 2352),
    ("resnet18", "fpn", "full"): (13.0e6, 711, 298),
    ("resnet18", "fpn", "half"): (11.7e6, 583, 170),
    ("resnet50", "unet", "full"): (32.5e6, 2672, 956),
    ("resnet50", "unet", "half"): (27.7e6, 2304, 588),
    ("resnet50", "unetplusplus", "full"): (49.0e6, 6129, 4413),
    ("resnet50", "unetplusplus", "half"): (43.7e6, 5761, 4044),
    ("resnet50", "fpn", "full"): (26.1e6, 1984, 388),
    ("resnet50", "fpn", "half"): (24.4e6, 1856, 260),
    ("attention26", "unet", "full"): (17.3e6, 2710, 956),
    ("attention26", "unet", "half"): (12.5e6, 2342, 588),
    ("attention26", "unetplusplus", "full"): (33.8e6, 6167, 4413),
    ("attention26", "unetplusplus", "half"): (28.5e6, 5798, 4044),
    ("attention26", "fpn", "full"): (10.9e6, 2022, 388),
    ("attention26", "fpn", "half"): (9.2e6, 1894, 260),
    ("attention50", "unet", "full"): (25.0e6, 3965, 956),
    ("attention50", "unet", "half"): (20.2e6, 3597, 588),
    ("attention50", "unetplusplus", "full"): (41.5e6, 7422, 4413),
    ("attention50", "unetplusplus", "half"): (36.2e6, 7053, 4044),
    ("attention50", "fpn", "full"): (18.6e6, 3277, 388),
    ("attention50", "fpn", "half"): (16.9e6, 3149, 260),
}
_CONTEXT = 0.5 * GIB
_HALF = 0.6
"""bfloat16 keeps two bytes of what float32 keeps four; losses and statistics stay as they are."""


@dataclass(frozen=True)
class Room:
    """Memory of a device in bytes. `free` equals the total if one of our jobs holds it now: that will have ended."""

    device: str
    free: int
    total: int
    on_gpu: bool

    @property
    def words(self) -> str:
        return f"{gib(self.free)} GiB" + (" free" if self.free < self.total else "")


def room_of(workers: Iterable[Mapping[str, Any]], *, busy: Collection[tuple[str, str]]) -> Room | None:
    """The device with the most memory, as reported by the workers; None if none reports any.

    `busy`: host and device of each running job.
    """
    rooms = []
    for worker in workers:
        for device in worker["devices"] if worker["queue"] == Queue.DEVICE else ():
            name, memory = device_name(device, host=worker["host"]), worker.get("memory") or {}
            if gpu := worker.get("gpus", {}).get(device):
                used = 0 if (worker["host"], device) in busy else gpu["used"]
                rooms.append(Room(name, gpu["total"] - used, gpu["total"], on_gpu=True))
            elif device == "cpu" and memory:
                rooms.append(Room(name, memory["free"], memory["total"], on_gpu=False))
    return max(rooms, key=lambda room: room.free, default=None)


def need_on(room: Room | None, spec: Spec) -> float | None:
    """Bytes that `spec` needs there: a GPU computes in bfloat16 unless configured otherwise. None if unknown."""
    return memory_of(spec, half=room is not None and room.on_gpu and getattr(spec, "precision", "") != "float32")


def batch_that_fits(spec: Spec, room: Room) -> int:
    """The largest batch size below that of `spec` that fits in `room`; 0 if none does."""
    least = 2 if isinstance(spec, PretrainSpec) else 1
    low, high = least - 1, getattr(spec, "batch_size", least)
    while high - low > 1:
        middle = (low + high) // 2
        need = need_on(room, spec.model_copy(update={"batch_size": middle}))
        low, high = (middle, high) if need is not None and need <= room.free else (low, middle)
    return low if low >= least else 0


def memory_of(spec: Spec, *, half: bool = False) -> float | None:
    """Upper estimate in bytes, for float32 or, with `half`, for bfloat16; None for networks that were not counted."""
    room_for_work = WORKSPACE * (_HALF if half else 1)
    if isinstance(spec, PretrainSpec) and spec.encoder in _ENCODERS:
        parameters, kept = _ENCODERS[spec.encoder]
        # Both views pass the online network; weights, gradients, two moments, and the target's weights.
        return parameters * 20 + 2 * spec.batch_size * spec.image_size**2 * kept * room_for_work + _CONTEXT
    if isinstance(spec, SegmentSpec) and (network := (spec.encoder, spec.decoder, spec.decoder_width)) in _SEGMENTERS:
        parameters, trained, frozen = _SEGMENTERS[network]
        pixels = spec.batch_size * (spec.image_size / REDUCTIONS[spec.resolution]) ** 2
        learns, kept = parameters, trained
        if spec.weights == "frozen":
            learns, kept = parameters - _ENCODERS[spec.encoder][0], frozen
        return parameters * 4 + learns * 12 + pixels * kept * room_for_work + _CONTEXT
    return None


def gib(number: float) -> str:
    """Formats bytes in GiB without the unit, as drivers and tools show them: 9.4, 139."""
    return f"{number / GIB:,.1f}" if number < 99.95 * GIB else f"{number / GIB:,.0f}"
