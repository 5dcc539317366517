"""Stand-alone self-attention beside im2col: time and peak memory, forward and backward; and our two ways compared.

Compared is what comes after the projections, which are the same for all. im2col is the formula as most write it: all
windows of keys and values cut out with F.unfold, keys outside of the image masked. Contenders take turns, and each
counts with its fastest round: whatever else the machine does only adds. On a CPU memory is the growth of a fresh
process' peak by one pass; on a GPU that of the allocator.

    python -m benchmarks.attention
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from ml_core.models.stand_alone_attention import attention, folded, is_folded, shifted
from ml_core.runtime.device import choose_device, device_name, set_threads

HEADS, SIZE = 8, 7
Shape = tuple[int, int, int, int]
LARGE: Shape = (4, 64, 32, 32)
SMALL: Shape = (4, 256, 14, 14)
NETWORK: tuple[Shape, ...] = (
    (4, 64, 32, 32),
    (4, 128, 32, 32),
    (4, 128, 16, 16),
    (4, 256, 16, 16),
    (4, 256, 8, 8),
    (4, 512, 8, 8),
    (4, 512, 4, 4),
    (4, 64, 56, 56),
    (4, 128, 28, 28),
    (4, 256, 14, 14),
    (4, 512, 7, 7),
)
"""The maps that attention50 attends to, of four images of 128 and then of 224 pixels."""

FOLDED_TO = 28 * 28
"""Larger maps are not tried as a whole: their table of logits alone would be gigabytes."""


def im2col(query: Tensor, key: Tensor, value: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The formula by cutting out all windows: (B, C, H, W) three times, embeddings twice; gives (B, C, H, W)."""
    batch, channels, height, width = query.shape

    def windows(x: Tensor) -> Tensor:
        return F.unfold(x, SIZE, padding=SIZE // 2).view(batch, HEADS, -1, SIZE**2, height * width)

    outside = F.unfold(query.new_ones(1, 1, height, width), SIZE, padding=SIZE // 2) == 0
    by_row = row[..., :, None].expand(-1, -1, -1, SIZE)
    by_column = column[..., None, :].expand(-1, -1, SIZE, -1)
    position = torch.cat([by_row, by_column], dim=1).reshape(1, HEADS, -1, SIZE**2, 1)
    queries = query.view(batch, HEADS, -1, 1, height * width)
    logits = (queries * (windows(key) + position)).sum(dim=2).masked_fill(outside, float("-inf"))
    return (logits.softmax(dim=2)[:, :, None] * windows(value)).sum(dim=3).view(batch, channels, height, width)


CONTENDERS: Mapping[str, Callable[..., Tensor]] = {
    "im2col": im2col,
    "shifted": shifted,
    "folded": folded,
    "ours": attention,
}


def arguments(shape: Shape, device: torch.device) -> list[Tensor]:
    half = shape[1] // HEADS // 2
    maps = [torch.randn(shape, device=device) for _ in range(3)]
    return [x.requires_grad_() for x in (*maps, *(torch.randn(HEADS, half, SIZE, device=device) for _ in range(2)))]


def forward_and_backward(compute: Callable[..., Tensor], given: list[Tensor]) -> None:
    y = compute(*given)
    torch.autograd.grad(y, given, torch.ones_like(y))


def seconds(names: list[str], shape: Shape, *, device: torch.device, rounds: int) -> dict[str, float]:
    """The fastest of so many rounds, after one that is not counted."""
    given = arguments(shape, device)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name in names:
            start = time.perf_counter()
            forward_and_backward(CONTENDERS[name], given)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            found[name].append(time.perf_counter() - start)
    return {name: min(times[1:]) for name, times in found.items()}


def peak_growth(name: str, shape: Shape, device: torch.device) -> int:
    """Bytes that one pass needs at its peak beyond its inputs, in a process that did nothing else."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, name, shape))
    process.start()
    grown: int = ours.recv()
    process.join()
    return grown


def serve(answer: Connection, name: str, shape: Shape) -> None:
    device = choose_device()
    set_threads(0)
    torch.manual_seed(0)
    # A small pass, for what the libraries load at the first use.
    forward_and_backward(CONTENDERS[name], arguments((1, 16, 2, 2), device))
    given = arguments(shape, device)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        forward_and_backward(CONTENDERS[name], given)
        answer.send(torch.cuda.max_memory_allocated(device) - before)
        return
    before = psutil.Process().memory_info().rss
    forward_and_backward(CONTENDERS[name], given)
    answer.send(peak_of_this_process() - before)


def peak_of_this_process() -> int:
    """Bytes. On Linux a child inherits getrusage's figure from its parent; the one in /proc is the process's own."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def beside_im2col(device: torch.device, *, rounds: int) -> list[dict[str, Any]]:
    """Prints ours beside im2col; returns the checks."""
    print(f"{'':20} {'im2col ms':>10} {'ours ms':>8} {'faster':>8} {'im2col MB':>10} {'ours MB':>8} {'memory':>8}")
    checks = []
    for shape, least, most in ((LARGE, 8.0, 1 / 3), (SMALL, 5.0, None)):
        took = seconds(["im2col", "ours"], shape, device=device, rounds=rounds)
        grown = {name: peak_growth(name, shape, device) for name in ("im2col", "ours")}
        faster, share = took["im2col"] / took["ours"], grown["ours"] / grown["im2col"]
        print(
            f"{shape!s:20} {took['im2col'] * 1e3:10.1f} {took['ours'] * 1e3:8.1f} {faster:7.1f}x "
            f"{grown['im2col'] / 1e6:10.0f} {grown['ours'] / 1e6:8.0f} {share:8.2f}"
        )
        checks.append(
            {"name": f"{shape}: times faster than im2col", "value": faster, "aim": least, "ok": faster >= least}
        )
        if most:
            name = f"{shape}: peak memory as a share of im2col's"
            checks.append({"name": name, "value": share, "aim": most, "ok": share <= most})
    return [{**check, "value": round(check["value"], 3), "aim": round(check["aim"], 3)} for check in checks]


def both_ways(device: torch.device, *, rounds: int) -> None:
    """Prints our two computations at the shapes of the network, and which of them the layer chooses."""
    print(f"\n{'':20} {'shifted ms':>10} {'folded ms':>10}  the layer takes")
    for shape in NETWORK:
        places = shape[2] * shape[3]
        names = ["shifted", "folded"] if places <= FOLDED_TO else ["shifted"]
        took = seconds(names, shape, device=device, rounds=rounds)
        times = [f"{took[name] * 1e3:10.1f}" if name in took else f"{'':10}" for name in ("shifted", "folded")]
        print(f"{shape!s:20} {' '.join(times)}  {'folded' if is_folded(places, device) else 'shifted'}")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    given = options.parse_args()
    device = choose_device()
    set_threads(0)
    torch.manual_seed(0)
    print(f"Attention of {SIZE}x{SIZE} windows in {HEADS} heads, float32, forward and backward, {device_name(device)}")
    checks = beside_im2col(device, rounds=given.rounds)
    both_ways(device, rounds=given.rounds)
    print(json.dumps({"checks": checks}))
    return 0 if all(check["ok"] for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
