"""Weights on disk: safetensors, with the facts that are needed to use them. Never pickle.

A file of weights is tensors and a header of text. The header keeps each fact under its own name: text unchanged
where it cannot be mistaken for JSON, everything else as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
from torch import Tensor

from ml_core.errors import UserError
from ml_core.job.files import write_whole


@dataclass(frozen=True)
class Weights:
    """What a file holds: tensors on the CPU by name, and the facts of its header."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder: weights by the names of `ml_core.models.encoders.build`, and its input's normalisation.

    An image of values in 0..1, shape (B, channels, H, W), is normalised to (x - mean) / deviation, channel by
    channel; a grey micrograph is repeated over the channels.
    """

    tensors: dict[str, Tensor]
    architecture: str
    channels: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """The rest: origin, step, image_size, ..."""


def save(path: Path, tensors: Mapping[str, Tensor], *, facts: Mapping[str, Any]) -> str:
    """Writes `tensors` and `facts` to `path`, whole or not at all; returns the file's SHA-256."""
    header = {name: _text(value) for name, value in facts.items()}
    plain = {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}
    body = safetensors.torch.save(plain, metadata=header)
    return write_whole(path, lambda file: _write_in_order(file, body))


def load(path: Path) -> Weights:
    """Reads a file of weights. Raises UserError where it is not one, or is damaged."""
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}. Choose the weights again.") from error
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path.name} is not a whole safetensors file ({error}). Make it again, or upload it again."
        ) from error
    return Weights(tensors=tensors, facts={name: _fact(text) for name, text in header.items()})


def save_encoder(path: Path, encoder: Encoder) -> str:
    """Writes an encoder to `path`; returns the file's SHA-256."""
    return save(path, encoder.tensors, facts=encoder_facts(encoder))


def encoder_facts(encoder: Encoder) -> dict[str, Any]:
    """The facts of an encoder, as stored in its file and with its artifact."""
    return {
        "architecture": encoder.architecture,
        "channels": encoder.channels,
        "mean": list(encoder.mean),
        "deviation": list(encoder.deviation),
        **encoder.facts,
    }


def load_encoder(path: Path) -> Encoder:
    """Reads an encoder. Raises UserError where its file lacks the facts of its input: results would be wrong."""
    found = load(path)
    facts = dict(found.facts)
    missing = [name for name in ("architecture", "channels", "mean", "deviation") if name not in facts]
    if missing:
        raise UserError(
            f"{path.name} does not say its {', '.join(missing)}, so its encoder would see images otherwise than in "
            "its training. Add them to the file's metadata, or export it again from where it was made."
        )
    architecture, channels = facts.pop("architecture"), facts.pop("channels")
    mean, deviation = facts.pop("mean"), facts.pop("deviation")
    try:
        encoder = Encoder(
            tensors=found.tensors,
            architecture=str(architecture),
            channels=int(channels),
            mean=tuple(float(value) for value in mean),
            deviation=tuple(float(value) for value in deviation),
            facts=facts,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{path.name} has metadata that cannot be read: {error}. Export it again.") from error
    if not len(encoder.mean) == len(encoder.deviation) == encoder.channels:
        raise UserError(
            f"{path.name} has {encoder.channels} channels, but {len(encoder.mean)} means and "
            f"{len(encoder.deviation)} deviations. It needs one of each per channel."
        )
    if not all(value > 0 for value in encoder.deviation):
        raise UserError(f"{path.name} has a deviation that is not greater than 0. Export it again.")
    return encoder


def _write_in_order(file: IO[bytes], body: bytes) -> None:
    """Writes a safetensors file with its header sorted: the library orders it by chance, and the same weights must
    be the same file, as a file's SHA-256 is its name."""
    length = int.from_bytes(body[:8], "little")
    header = json.dumps(json.loads(body[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # The format aligns the tensors to 8 bytes.
    file.write(len(header).to_bytes(8, "little"))
    file.write(header)
    file.write(memoryview(body)[8 + length :])


def _text(value: Any) -> str:
    """The inverse of `_fact`: text unchanged, unless it would be read as something else ("12")."""
    return value if isinstance(value, str) and _fact(value) == value else json.dumps(value)


def _fact(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
