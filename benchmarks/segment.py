"""Segmentation: prediction in tiles beside one forward pass of the whole image; kept features beside the plain step.

    python -m benchmarks.segment

Times are processor time of all threads, the least of runs that take turns: others on the machine then hardly count
(OMP_WAIT_POLICY=PASSIVE keeps waiting threads from counting either). Memory is the growth of a process's peak resident
set, each measured in a process of its own. Networks have random weights: their time does not depend on them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml_core.data.loading.augmentation import augment
from ml_core.models.feature_cache import FORMS, FeatureCache
from ml_core.models.tiled_prediction import predict_bands
from ml_core.models.unet import Segmenter, segmentation_loss
from ml_core.runtime.device import choose_precision, device_name, set_threads

DEVICE = torch.device("cpu")
PRECISION = choose_precision(DEVICE, "auto")
BFLOAT16 = str(PRECISION) == "torch.bfloat16"
TILE, OVERLAP = 1024, 64
"""Half of what is meant for 10,000 x 10,000, so that runs are short enough to take turns often."""
WHOLE = 2048
"""A side at which the whole image still fits."""
SMALL, LARGE = 1984, 5824
"""Sides that tiles of 1,024 cover exactly, twice and six times: 8.6 times as many pixels, at the same tile."""
IMAGES, SIZE, BATCH = 8, 224, 4
"""Of the kept features: images, their side, the paper's batch."""


def autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=BFLOAT16)


def segmenter(architecture: str = "resnet18", *, frozen: bool = False) -> Segmenter:
    torch.manual_seed(0)
    made = Segmenter(architecture=architecture, classes=2, mean=[0.5] * 3, deviation=[0.2] * 3, frozen=frozen)
    return made.to(memory_format=torch.channels_last).eval()


def predict_whole(network: Segmenter, grey: Tensor) -> None:
    with torch.inference_mode(), autocast():
        network(grey[None].float() / 255)


def predict_in_tiles(network: Segmenter, grey: Tensor, *, tile: int, overlap: int) -> None:
    def predict(tiles: Tensor) -> Tensor:
        with torch.inference_mode(), autocast():
            return network(tiles.float() / 255)

    for _ in predict_bands(predict, grey, tile=tile, overlap=overlap, batch_size=1):
        pass


def image(side: int) -> Tensor:
    return torch.randint(0, 256, (1, side, side), dtype=torch.uint8)


def seconds(*ways: Callable[[], None], repeats: int) -> list[float]:
    """The least processor time of each way; they take turns."""
    found: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for way, times in zip(ways, found, strict=True):
            start = time.process_time()
            way()
            times.append(time.process_time() - start)
    return [min(times) for times in found]


def peak(way: str, side: int) -> int:
    """How many bytes the peak of a new process grows by while it predicts one image."""
    command = [sys.executable, "-m", "benchmarks.segment", "--peak", way, str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def say_peak(way: str, side: int) -> None:
    network, grey = segmenter(), image(side)
    predict_whole(network, image(64))
    before = most_resident()
    if way == "whole":
        predict_whole(network, grey)
    else:
        predict_in_tiles(network, grey, tile=TILE, overlap=OVERLAP)
    print(most_resident() - before)


def most_resident() -> int:
    """The peak of this process in bytes. Linux; getrusage would begin with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


class Squares:
    """As `ml_core.data.loading.segmentation_data.SegmentationData`, with images made up here."""

    size = SIZE
    samples = IMAGES

    def __init__(self) -> None:
        self._grey = torch.rand(IMAGES, 1, SIZE, SIZE)
        self._classes = (self._grey[:, 0] > 0.9).to(torch.uint8)

    def batch(self, samples: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return self._grey[samples], self._classes[samples]


def steps(architecture: str, *, repeats: int = 7) -> tuple[float, float, float]:
    """Seconds of a plain step and of one on kept features, and the GB that 100 images in all forms would take."""
    network, data = segmenter(architecture, frozen=True), Squares()
    optimizer = torch.optim.Adam(network.trained(), lr=5e-4, fused=True)
    cache = FeatureCache(network, data, autocast=autocast)  # type: ignore[arg-type]
    chance = np.random.default_rng(0)

    def learn(logits: Tensor, truth: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        segmentation_loss(logits, truth).backward()
        optimizer.step()

    def plain() -> None:
        network.train()
        grey, truth = augment(*data.batch(chance.choice(IMAGES, BATCH, replace=False)), policy="paper")
        with autocast():
            logits = network(grey)
        learn(logits, truth)

    def kept() -> None:
        network.train()
        maps, truth = cache.batch(chance.choice(IMAGES, BATCH, replace=False))
        with autocast():
            logits = network.decode(maps)
        learn(logits, truth)

    grey = data.batch(np.arange(IMAGES))[0]
    for sample in range(IMAGES):
        for form in range(FORMS):
            cache._maps(sample, grey[sample][None], form=form)
    plain(), kept()
    both = seconds(plain, kept, repeats=repeats)
    return both[0], both[1], cache.most_bytes() / IMAGES * 100 / 1e9


def main() -> None:
    set_threads(0)
    print(f"{device_name(DEVICE)}, {torch.get_num_threads()} threads, {PRECISION}")
    network, grey = segmenter(), image(WHOLE)
    predict_whole(network, image(512))
    whole, tiled = seconds(
        lambda: predict_whole(network, grey),
        lambda: predict_in_tiles(network, grey, tile=TILE, overlap=OVERLAP),
        repeats=4,
    )
    pixels = WHOLE**2
    print(f"\nU-Net on ResNet-18, image {WHOLE} x {WHOLE}: time per Mpx")
    print(f"  whole image                   {whole / pixels * 1e6:7.3f} s")
    print(f"  tiles {TILE}, overlap {OVERLAP}       {tiled / pixels * 1e6:7.3f} s   ratio {tiled / whole:.2f}")

    peaks = {(way, side): peak(way, side) for way, side in (("whole", SMALL), ("tiles", SMALL), ("tiles", LARGE))}
    print("\nThe same, growth of peak memory")
    for (way, side), bytes_ in peaks.items():
        print(f"  {way:5} {side} x {side}             {bytes_ / 1e6:7.0f} MB")
    grown = peaks["tiles", LARGE] / peaks["tiles", SMALL]

    print(f"\nFrozen encoder at {SIZE} px, batch {BATCH}: a training step, plain and on kept features")
    ratios = {}
    for architecture in ("resnet18", "resnet50"):
        plain, kept, gigabytes = steps(architecture)
        ratios[architecture] = plain / kept
        print(
            f"  {architecture}  {plain:6.3f} s  {kept:6.3f} s   ratio {plain / kept:.2f}   "
            f"{gigabytes:.1f} GB for 100 images"
        )
    checks = [
        _check("tiled time per pixel over whole", tiled / whole, "at most", 1.3),
        _check(f"peak memory of {LARGE} px over {SMALL} px (8.6 times the pixels)", grown, "at most", 1.5),
        _check("plain step over kept features, resnet18", ratios["resnet18"], "at least", 1.1),
        _check("plain step over kept features, resnet50", ratios["resnet50"], "at least", 1.1),
    ]
    print(json.dumps({"checks": checks}))


def _check(name: str, value: float, sense: str, limit: float) -> dict[str, object]:
    ok = value <= limit if sense == "at most" else value >= limit
    return {"name": name, "value": round(value, 3), "aim": f"{sense} {limit:g}", "ok": ok}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        set_threads(0)
        say_peak(sys.argv[2], int(sys.argv[3]))
    else:
        main()
