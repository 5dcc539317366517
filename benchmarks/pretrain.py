"""Pretraining beside lightly's BYOL: pairs per second of whole steps, memory, and our time outside of the network.

A step is all that a run repeats: data, views, forward, backward, optimizer, target. Ours is the recipe's own, on
prepared arrays; lightly's is its example's, with its transform, data set and data loader on the same images as PNG.
Each contender is a process of its own, so that memory can be told apart, and they take turns in short blocks, so that
whatever else the machine does strikes all of them.

    python -m benchmarks.pretrain
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
import torchvision
from PIL import Image
from torch import nn

from ml_core.data.arrays.prepare import prepare
from ml_core.data.loading.view_pairs import Pairs, source_size
from ml_core.data.manifests import folder_manifest
from ml_core.data.synthetic import micrograph
from ml_core.models import encoders
from ml_core.recipes.pretrain import begin, learn
from ml_core.runtime.device import choose_device, choose_precision, device_name, set_threads
from ml_core.runtime.sampler import ResumableSampler
from ml_core.specs import PretrainSpec

SIZE = 128
PATCH = 224
STEPS = 3
"""In a block, after one that is not counted."""


class Contender(Protocol):
    def block(self, steps: int) -> list[float]:
        """Seconds of each of so many steps, after one for warming up."""


class Ours:
    """The recipe's step on views as BYOL makes them. `outside` is the share of the time before the network's."""

    def __init__(self, folder: Path, *, batch: int, device: torch.device, precision: str) -> None:
        self.spec = PretrainSpec(views="byol", image_size=SIZE, batch_size=batch, precision=precision)  # type: ignore[arg-type]
        manifest = folder_manifest.from_folder(folder / "images")
        images = prepare(manifest, blobs=None, root=folder / "prepared", size=source_size(self.spec))
        self.pairs = Pairs(images.array, ab=None, spec=self.spec, device=device)
        self.sampler = ResumableSampler(len(self.pairs), batch_size=batch, seed=0)
        self.network, self.optimizer = begin(self.spec, encoder=encoders.build("resnet50"), device=device)
        self.device, self.precision = device, choose_precision(device, self.spec.precision)
        self.done = 0
        self.outside = 0.0

    def autocast(self) -> Any:
        return nullcontext() if self.precision == torch.float32 else torch.autocast(self.device.type, self.precision)

    def step(self, *, wait: bool) -> float:
        """One step; returns what data and views took, which is only known where `wait` keeps a GPU from running on."""
        start = time.perf_counter()
        self.done += 1
        view_1, view_2 = self.pairs.views(self.sampler.batch(self.done))
        seen = (self.pairs.normalised(view_1), self.pairs.normalised(view_2))
        if wait:
            finish(self.device)
        before = time.perf_counter() - start
        learn(self.network, self.optimizer, views=seen, momentum=0.99, autocast=self.autocast)
        return before

    def block(self, steps: int) -> list[float]:
        self.step(wait=False)
        finish(self.device)
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            self.step(wait=False)
            finish(self.device)
            seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        before = self.step(wait=True)
        finish(self.device)
        self.outside = before / (time.perf_counter() - start)
        return seconds


class Lightly:
    """lightly's BYOL as its documentation puts it together, its float32 or under autocast."""

    outside = None

    def __init__(self, folder: Path, *, batch: int, device: torch.device, precision: str) -> None:
        from lightly.data import LightlyDataset
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
        from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform

        transform = BYOLTransform(BYOLView1Transform(input_size=SIZE), BYOLView2Transform(input_size=SIZE))
        self.loader = torch.utils.data.DataLoader(
            LightlyDataset(str(folder / "images"), transform=transform),
            batch_size=batch,
            shuffle=True,
            drop_last=True,
            num_workers=2 if device.type == "cpu" else min(16, os.cpu_count() or 2),
            pin_memory=device.type == "cuda",
        )
        backbone = torchvision.models.resnet50()
        backbone.fc = nn.Identity()  # type: ignore[assignment]
        self.backbone, self.projector = backbone.to(device), BYOLProjectionHead().to(device)
        self.predictor = BYOLPredictionHead().to(device)
        self.slow_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.slow_projector = copy.deepcopy(self.projector).requires_grad_(False)
        trained = [*self.backbone.parameters(), *self.projector.parameters(), *self.predictor.parameters()]
        self.optimizer = torch.optim.Adam(trained, lr=3e-4)
        self.criterion = NegativeCosineSimilarity()
        self.device, self.precision = device, choose_precision(device, precision)  # type: ignore[arg-type]

    def batches(self) -> Iterator[Any]:
        while True:
            yield from self.loader

    def step(self, batch: Any) -> None:
        from lightly.models.utils import update_momentum

        (x0, x1), _, _ = batch
        x0, x1 = x0.to(self.device, non_blocking=True), x1.to(self.device, non_blocking=True)
        update_momentum(self.backbone, self.slow_backbone, m=0.99)
        update_momentum(self.projector, self.slow_projector, m=0.99)
        on = self.precision != torch.float32
        with torch.autocast(self.device.type, self.precision) if on else nullcontext():
            p0, p1 = (self.predictor(self.projector(self.backbone(x).flatten(1))) for x in (x0, x1))
            with torch.no_grad():
                z0, z1 = (self.slow_projector(self.slow_backbone(x).flatten(1)) for x in (x0, x1))
            loss = 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def block(self, steps: int) -> list[float]:
        # The loader's processes run as long as the block: they fill their queue during the step that does not count.
        batches = self.batches()
        self.step(next(batches))
        finish(self.device)
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            self.step(next(batches))
            finish(self.device)
            seconds.append(time.perf_counter() - start)
        self.helpers = sum(child.memory_full_info().uss for child in psutil.Process().children())
        batches.close()
        return seconds


CONTENDERS: dict[str, tuple[type[Any], str]] = {
    "lightly, float32": (Lightly, "float32"),
    "lightly, bfloat16": (Lightly, "bfloat16"),
    "ours, float32": (Ours, "float32"),
    "ours, default": (Ours, "auto"),
}


def write_images(folder: Path, *, count: int) -> None:
    """PNG files of the size of CEM500K's patches, cut from larger micrographs."""
    folder.mkdir()
    edge = 4
    for number in range(count):
        source, place = divmod(number, edge * edge)
        if place == 0:
            whole, _ = micrograph(source, size=edge * PATCH)
        y, x = (PATCH * n for n in divmod(place, edge))
        Image.fromarray(whole[y : y + PATCH, x : x + PATCH]).save(folder / f"{number}.png")


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def serve(orders: Connection, name: str, folder: Path, batch: int) -> None:
    """A contender's process: a block at each order, then how much memory it took at most, in bytes."""
    device = choose_device()
    set_threads(0)
    torch.manual_seed(0)
    kind, precision = CONTENDERS[name]
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    at_first = peak(device)
    contender = kind(folder, batch=batch, device=device, precision=precision)
    orders.send("ready")
    while (steps := orders.recv()) > 0:
        orders.send((contender.block(steps), contender.outside))
    helpers = getattr(contender, "helpers", 0) if device.type == "cpu" else 0
    orders.send(peak(device) - at_first + helpers)


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(folder: Path, *, batch: int, rounds: int, steps: int, minutes: float) -> dict[str, dict[str, Any]]:
    """Rounds in which each contender has one block: as many as `rounds`, or as fit into the minutes; one at least."""
    spawn = multiprocessing.get_context("spawn")
    lines, processes = {}, []
    for name in CONTENDERS:
        lines[name], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=serve, args=(theirs, name, folder, batch)))
        processes[-1].start()
        theirs.close()
    for line in lines.values():
        line.recv()  # so that nobody is measured while another begins
    found: dict[str, dict[str, Any]] = {name: {"seconds": [], "outside": []} for name in CONTENDERS}
    start = time.monotonic()
    for number in range(1, rounds + 1):
        for name, line in lines.items():
            line.send(steps)
            seconds, outside = line.recv()
            found[name]["seconds"] += seconds
            found[name]["outside"].append(outside)
            print(f"round {number}, {name}: {', '.join(f'{s:.2f}' for s in seconds)} s", file=sys.stderr, flush=True)
        passed = (time.monotonic() - start) / 60
        if passed * (number + 1) / number > minutes:
            break  # another round would not be done in time
    for name, line in lines.items():
        line.send(0)
        found[name]["memory"] = line.recv()
    for process in processes:
        process.join()
    return found


def report(found: dict[str, dict[str, Any]], *, batch: int, device: torch.device) -> list[dict[str, Any]]:
    """Prints the table; returns the checks."""
    rate = {name: batch / statistics.median(one["seconds"]) for name, one in found.items()}
    base = rate["lightly, float32"]
    print(f"BYOL, ResNet-50, {batch} pairs of {SIZE}x{SIZE} px, {device_name(device)}")
    print(f"{'':20} {'pairs/s':>8} {'beside lightly':>15} {'least, most s':>15} {'memory GB':>10} {'data, views':>12}")
    for name, one in found.items():
        spread = f"{min(one['seconds']):.2f}, {max(one['seconds']):.2f}"
        outside = "" if one["outside"][0] is None else f"{statistics.median(one['outside']):.1%}"
        memory = one["memory"] / 1e9
        print(f"{name:20} {rate[name]:8.2f} {rate[name] / base:14.2f}x {spread:>15} {memory:10.2f} {outside:>12}")
    fast = choose_precision(device, "auto") == torch.bfloat16
    least = 5.0 if device.type == "cuda" else 2.0
    checks = [("float32 beside lightly's float32", rate["ours, float32"] / base, 1.1)]
    if fast:
        checks.append(("default (bfloat16) beside lightly's default (float32)", rate["ours, default"] / base, least))
    else:
        print("This device computes no bfloat16: the default is float32, and its aim does not hold here.")
    return [{"name": name, "value": round(value, 3), "aim": aim, "ok": value >= aim} for name, value, aim in checks]


def main() -> int:
    device = choose_device()
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--batch", type=int, default=256 if device.type == "cuda" else 20)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--minutes", type=float, default=4)
    options.add_argument("--steps", type=int, default=STEPS if device.type == "cpu" else 20)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", count=max(240, 4 * given.batch))
        found = measure(folder, batch=given.batch, rounds=given.rounds, steps=given.steps, minutes=given.minutes)
    checks = report(found, batch=given.batch, device=device)
    print(json.dumps({"checks": checks}))
    return 0 if all(check["ok"] for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
