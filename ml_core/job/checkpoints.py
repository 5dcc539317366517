"""Checkpoints on disk: whole or not there at all. Nothing here imports torch.

A checkpoint is a folder `step-<12 digits>`. It is built under a temporary name; `complete.json`, which holds the
SHA-256 of every file, is written last and the folder then takes its name. A process that is killed while writing
leaves a folder that no reader takes for a checkpoint, and the previous checkpoint unchanged.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from ml_core.job.files import sha256_of, write_whole

SEAL = "complete.json"
KEPT = 2
"""The newest and the one before it: if the newest is damaged on disk, one interval is lost, not the run."""

_NAME = re.compile(r"step-(\d{12})\Z")


def step_of(path: Path) -> int:
    """The step after which the checkpoint at `path` was written. Raises ValueError for another folder's name."""
    if match := _NAME.match(path.name):
        return int(match[1])
    raise ValueError(f"{path} is not the name of a checkpoint")


def save(folder: Path, *, step: int, files: Mapping[str, Callable[[IO[bytes]], object]]) -> Path:
    """Writes a checkpoint of `files` (name -> function that writes it) into `folder` and returns its path.

    A whole checkpoint of the same step is left as it is: a step has one state. Raises OSError (disk full, ...), in
    which case nothing that could be taken for a checkpoint is left behind.
    """
    target = folder / f"step-{step:012d}"
    if is_whole(target):
        return target
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    _discard(temporary)
    _discard(target)
    try:
        temporary.mkdir(parents=True)
        digests = {name: write_whole(temporary / name, write) for name, write in files.items()}
        seal = json.dumps({"version": 1, "step": step, "files": digests}).encode()
        write_whole(temporary / SEAL, lambda file: file.write(seal))
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder)
    return target


def is_whole(path: Path) -> bool:
    """Whether the checkpoint at `path` is sealed and every file in it is as it was written. Reads all of it."""
    try:
        seal = json.loads((path / SEAL).read_bytes())
        return (
            seal["step"] == step_of(path)
            and len(seal["files"]) > 0
            and all(sha256_of(path / name) == digest for name, digest in seal["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def listed(folder: Path) -> list[Path]:
    """The checkpoints in `folder` by their names, newest first; they may yet prove to be damaged."""
    try:
        found = [path for path in folder.iterdir() if _NAME.match(path.name)]
    except FileNotFoundError:
        return []
    return sorted(found, key=step_of, reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` that verifies, or None."""
    return next((path for path in listed(folder) if is_whole(path)), None)


def prune(folder: Path, *, keep: int = KEPT) -> None:
    """Removes all but the newest `keep` checkpoints, and temporary folders that killed writers have left."""
    for path in listed(folder)[keep:]:
        _discard(path)
    for path in folder.glob(".step-*.tmp"):
        _discard(path)


def _discard(path: Path) -> None:
    """Removes a checkpoint, its seal first, so that half of one is never taken for a whole one."""
    (path / SEAL).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
