"""Weights that others published as pickles: downloaded once, verified by SHA-256, loaded as tensors only."""

from __future__ import annotations

import errno
import hashlib
import http.client
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ml_core.errors import UserError
from ml_core.job.files import sha256_of, write_whole

_CHUNK = 1 << 20


@dataclass(frozen=True)
class PublishedFile:
    """One published state dict. Its authors put the first digits of its SHA-256 into its name."""

    network: str
    """Its name in messages: "eccv16"."""
    address: str
    hash_prefix: str
    bring_in: str
    """How a person gives the file to a job: "bring it in as the job's colorizer weights"."""
    otherwise: str
    """What to choose where the file cannot be had: "choose the method structured, which needs none"."""

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]

    @property
    def remedy(self) -> str:
        return f"Download {self.address} on a machine with internet and {self.bring_in}, or {self.otherwise}."


def state_dict_of(published: PublishedFile, *, path: Path | None, keep: Path) -> dict[str, Tensor]:
    """The tensors by the names of their authors, on the CPU.

    `path` is the file that was brought in: the published one itself, or a safetensors file of the same tensors. Without
    it the published file is fetched once into the folder `keep`. A pickle is opened only if its SHA-256 begins with
    the published digits, and then with `weights_only=True`. Raises UserError with what to do.
    """
    if path is None:
        path = _fetched(published, target=keep / published.name)
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise UserError(
            f"The file {path} of {published.network} could not be read: {error.strerror}. Bring it in again."
        ) from error
    if digest.startswith(published.hash_prefix):
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return found
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"The file {path.name} is neither the published weights of {published.network} (SHA-256 "
            f"{published.hash_prefix}…, this one is {digest[:8]}…) nor a safetensors file. Bring in "
            f"{published.name}, or {published.otherwise}."
        ) from error


def _fetched(published: PublishedFile, *, target: Path) -> Path:
    """Downloads the published file to `target`, unless it is there; what is not the published file is not kept."""
    if target.is_file():
        return target
    try:
        with urllib.request.urlopen(published.address, timeout=30) as answer:  # noqa: S310  addresses of ours
            write_whole(target, lambda file: _copy(answer, file, published))
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # the disk is full, which has another message
        raise UserError(
            f"The weights of {published.network} could not be downloaded: no network leads there from "
            f"this machine. {published.remedy}"
        ) from error
    return target


def _copy(answer: IO[bytes], file: IO[bytes], published: PublishedFile) -> None:
    digest = hashlib.sha256()
    for chunk in _chunks(answer):
        digest.update(chunk)
        file.write(chunk)
    if not digest.hexdigest().startswith(published.hash_prefix):
        raise UserError(
            f"What was downloaded as the weights of {published.network} is not the published file and was not kept. "
            f"{published.remedy}"
        )


def _chunks(answer: IO[bytes]) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK):
        yield chunk
