"""A job's inputs besides its specification: datasets, files of earlier jobs, a checkpoint to start from.

The supervisor writes `inputs.json` (see `docs/contracts.md`); at a terminal the same is made of `--dataset` and
`--input`. Nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_core.errors import UserError

VERSION = 1


@dataclass(frozen=True)
class Slot:
    """One input of a job. `values` is the slot's entry in `inputs.json`, unchanged."""

    name: str
    values: Mapping[str, Any]

    @property
    def path(self) -> Path | None:
        """The file: a manifest for a dataset, an artifact or an upload for the rest."""
        return Path(self.values["path"]) if self.values.get("path") else None

    @property
    def folder(self) -> Path | None:
        """The folder of images that a dataset is made of at a terminal."""
        return Path(self.values["folder"]) if self.values.get("folder") else None

    @property
    def sha256(self) -> str:
        return str(self.values.get("sha256", ""))

    @property
    def facts(self) -> Mapping[str, Any]:
        """The facts that the job which made the artifact stored with it; empty for a file from a terminal."""
        return self.values.get("facts") or {}


@dataclass(frozen=True)
class Inputs:
    """All inputs of a job.

    `prepared` is where prepared arrays are kept and shared between jobs. `resume` is a checkpoint of this job,
    `extend` one of a finished job that this one carries on.
    """

    prepared: Path
    blobs: Path | None = None
    resume: Path | None = None
    extend: Path | None = None
    slots: Mapping[str, Slot] = field(default_factory=dict)

    def slot(self, name: str) -> Slot | None:
        """The slot called `name`, or None where it was left empty."""
        return self.slots.get(name)

    def path(self, name: str) -> Path:
        """The file in slot `name`. Raises UserError where the slot is empty or the file is missing."""
        slot = self.slots.get(name)
        if slot is None or slot.path is None:
            raise UserError(
                f"This job needs an input {name}, and none was given. Choose one, or pass --input {name}=FILE."
            )
        if not slot.path.is_file():
            raise UserError(
                f"The input {name} is missing: there is no file {slot.path}. Restore it from a backup or make it again."
            )
        return slot.path


def read(path: Path, *, folder: Path) -> Inputs:
    """Reads `inputs.json`. `folder` is the job's own; prepared arrays go there where the file names no other place.

    Raises UserError where the file does not follow the contract.
    """
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"The inputs cannot be read from {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    if not isinstance(raw, dict) or raw.get("version") != VERSION:
        raise UserError(f"{path} is not a list of inputs of version {VERSION}.")
    return Inputs(
        prepared=_path(raw, "prepared") or folder / "prepared",
        blobs=_path(raw, "blobs"),
        resume=_path(raw, "resume"),
        extend=_path(raw, "extend"),
        slots={name: Slot(name, values) for name, values in (raw.get("slots") or {}).items()},
    )


def from_terminal(
    folder: Path, *, dataset: Path | None = None, files: Mapping[str, Path] | None = None, extend: Path | None = None
) -> Inputs:
    """The inputs of a job that a person starts at a terminal: a folder of images, and files by the slot's name."""
    slots = {name: Slot(name, {"path": str(path)}) for name, path in (files or {}).items()}
    if dataset is not None:
        if not dataset.exists():
            raise UserError(f"There is no folder {dataset} to take images from.")
        key = "folder" if dataset.is_dir() else "path"
        slots["dataset"] = Slot("dataset", {key: str(dataset), "name": dataset.stem})
    return Inputs(prepared=folder / "prepared", extend=extend, slots=slots)


def _path(raw: Mapping[str, Any], key: str) -> Path | None:
    return Path(raw[key]) if raw.get(key) else None
