"""Intake beside a plain loop of tifffile and Pillow over the same files, which writes the same thumbnails.

`python -m benchmarks.intake` makes 10,000 TIFF files of 224 x 224 px and one stack of 2 GB in a temporary folder
(`--files`, `--stack-mb`, `--folder` for a shorter run or another disk). Ours hashes every file, judges headers, checks,
finds windows, and brings all of it onto the disk before it says that it has it; the loop does none of that.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import tifffile
from PIL import Image

from ml_core.job.context import PlainContext
from ml_core.job.inputs import Inputs, Slot
from ml_core.job.reporting import EventFile
from ml_core.recipes import intake
from ml_core.specs import IntakeSpec

SIZE, SIDE = 160, 1024
AIM_TIME = 1.3
AIM_MEMORY_MB = 300
MB = 2**20


@dataclass(frozen=True)
class Run:
    seconds: float
    peak_mb: float


def make_files(folder: Path, *, count: int) -> Path:
    """`count` noisy micrographs as TIFFs, and a zip of them, as people upload them."""
    rng = np.random.default_rng(0)
    (folder / "files").mkdir()
    ground = [_texture(rng, 224) for _ in range(32)]
    with zipfile.ZipFile(folder / "files.zip", "w") as archive:
        for number in range(count):
            noise = rng.integers(-12, 13, (224, 224), dtype=np.int16)
            path = folder / "files" / f"patch_{number:05d}.tiff"
            tifffile.imwrite(path, (ground[number % 32] + noise).clip(0, 255).astype(np.uint8))
            archive.write(path, f"patches/{path.name}")
    return folder / "files.zip"


def make_stack(folder: Path, *, megabytes: int) -> Path:
    """One 16-bit stack with a directory per slice."""
    rng = np.random.default_rng(1)
    ground = _texture(rng, SIDE).astype(np.uint16) * 150
    path = folder / "stack.tif"
    with tifffile.TiffWriter(path, bigtiff=megabytes > 4000) as writer:
        for _ in range(max(1, megabytes * MB // (2 * SIDE * SIDE))):
            noise = rng.integers(0, 3000, (SIDE, SIDE), dtype=np.uint16)
            writer.write(ground + noise, contiguous=False)
    return path


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    small = Image.fromarray(rng.integers(20, 236, (side // 8, side // 8)).astype(np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)


def plain_files(folder: Path) -> None:
    """The loop that one would write."""
    out = folder / "plain"
    out.mkdir(exist_ok=True)
    for path in sorted((folder / "files").iterdir()):
        _thumbnail(tifffile.imread(path), out / f"{path.stem}.webp")


def plain_stack(folder: Path) -> None:
    out = folder / "plain"
    out.mkdir(exist_ok=True)
    with tifffile.TiffFile(folder / "stack.tif") as stack:
        pages = stack.pages
        some = np.linspace(0, len(pages) - 1, min(8, len(pages))).astype(int)
        low, high = np.percentile([pages[int(n)].asarray()[::2, ::2] for n in some], (0.35, 99.65))
        for number, page in enumerate(pages):
            scaled = (page.asarray().astype(np.float32) - low) * (255 / (high - low))
            _thumbnail(scaled.clip(0, 255).astype(np.uint8), out / f"{number}.webp")


def _thumbnail(pixels: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(pixels)
    scale = min(1.0, SIZE / min(picture.size))
    size = (round(picture.width * scale), round(picture.height * scale))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0).save(buffer, "WEBP", quality=82, method=2)
    path.write_bytes(buffer.getvalue())


def ours(folder: Path, *, source: Path, decoders: int) -> None:
    """The recipe, as a job runs it."""
    work = Path(tempfile.mkdtemp(prefix="ours-", dir=folder))
    intake.DECODERS = decoders
    events = EventFile(work)
    inputs = Inputs(prepared=work, slots={"upload": Slot("upload", {"path": str(source)})})
    spec = IntakeSpec(filename=source.name, thumbnail_size=SIZE)
    intake.run(PlainContext(spec=spec, inputs=inputs, folder=work, reporter=events))
    events.close()


def measured(arguments: Sequence[str]) -> Run:
    """Runs a part of this module in a process of its own; its time, and the most memory that it and its children had.

    Memory that several hold in common counts once (proportional set size).
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.intake", *arguments])
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return Run(time.perf_counter() - began, peak / MB)


def _memory(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:
        return total
    return total


def compare(folder: Path, *, files: int, stack_mb: int) -> list[dict[str, object]]:
    cases: list[tuple[str, Callable[[], Path], float]] = []
    if files:
        cases.append(("files", lambda: make_files(folder, count=files), 224 * 224 / MB))
    if stack_mb:
        cases.append(("stack", lambda: make_stack(folder, megabytes=stack_mb), 2 * SIDE * SIDE / MB))
    checks: list[dict[str, object]] = []
    print(f"{'':24} {'seconds':>9} {'beside plain':>13} {'peak MB':>9}")
    for name, make, slice_mb in cases:
        source = make()
        os.sync()  # so that writing the files counts for neither side
        plain = measured([f"--only=plain-{name}", f"--folder={folder}"])
        print(f"{name + ', plain loop':24} {plain.seconds:9.1f} {'':>13} {plain.peak_mb:9.0f}", flush=True)
        for decoders in (1, intake.DECODERS):
            run = measured([f"--only={source.name}", f"--folder={folder}", f"--decoders={decoders}"])
            ratio = run.seconds / plain.seconds
            label = f"{name}, ours, {decoders} decoder{'s' * (decoders > 1)}"
            print(f"{label:24} {run.seconds:9.1f} {ratio:13.2f} {run.peak_mb:9.0f}", flush=True)
            checks.append(_check(f"{label}: time beside the plain loop", ratio, AIM_TIME))
            checks.append(_check(f"{label}: peak memory, MB", run.peak_mb, AIM_MEMORY_MB + 1.5 * slice_mb))
    return checks


def _check(name: str, value: float, aim: float) -> dict[str, object]:
    return {"name": name, "value": round(value, 3), "aim": round(aim, 3), "ok": value <= aim}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="how many files of 224 x 224 px (10,000)")
    parser.add_argument("--stack-mb", type=int, default=2048, help="the stack's size in MB (2,048)")
    parser.add_argument("--folder", type=Path, help="where to make them (a temporary folder)")
    parser.add_argument("--decoders", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only == "plain-files":
        plain_files(given.folder)
    elif given.only == "plain-stack":
        plain_stack(given.folder)
    elif given.only:
        ours(given.folder, source=given.folder / given.only, decoders=given.decoders)
    else:
        with tempfile.TemporaryDirectory(prefix="benchmark-intake-", dir=given.folder) as folder:
            checks = compare(Path(folder), files=given.files, stack_mb=given.stack_mb)
        print(json.dumps({"checks": checks}))


if __name__ == "__main__":
    main()
