"""Converts encoders' weights from other programs to a safetensors file with all facts about them.

A pickle is opened with `weights_only=True`, which builds tensors and plain containers and nothing else; one that needs
more is refused. This is for use at a terminal: the server opens only safetensors, and pickles whose hash it knows.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ml_core.errors import UserError
from ml_core.exchange import imagenet, state_dicts
from ml_core.exchange.state_dicts import Found
from ml_core.job.files import sha256_of
from ml_core.runtime import weights
from ml_core.specs.architectures import ENCODERS


@dataclass(frozen=True)
class Layout:
    """The origin of a file of weights, and the normalisation of images that its encoder expects."""

    source: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    origin: str = "imported"
    files: tuple[str, ...] = ()
    """Prefixes of the names under which it is published; `auto` recognises it by them."""


LAYOUTS: Mapping[str, Layout] = {
    "torchvision": Layout("ImageNet, torchvision", imagenet.MEAN, imagenet.DEVIATION, origin="imagenet"),
    "moco": Layout("ImageNet, MoCo v2 (Chen et al. 2020)", imagenet.MEAN, imagenet.DEVIATION, files=("moco_v2_",)),
    # The constants of both are in 0..1 and come from github.com/volume-em/cem-dataset, pretraining/mocov2/
    # mocov2_config.yaml and pretraining/swav/swav_config.yaml; MitoNet states the latter as well. Their checkpoints
    # also contain them as `norms`, which takes precedence.
    "cem500k-mocov2": Layout(
        "CEM500K, MoCo v2 (Conrad and Narayan 2021, doi:10.5281/zenodo.6453140)",
        (0.57287007,),
        (0.12740536,),
        files=("cem500k_mocov2",),
    ),
    "cem1.5m-swav": Layout(
        "CEM1.5M, SwAV (Conrad and Narayan 2023, doi:10.5281/zenodo.6453160)",
        (0.57571,),
        (0.12765,),
        files=("cem1.5m_swav", "cem15m_swav"),
    ),
}

_INSIDE = ("state_dict", "model_state_dict", "model", "network", "encoder")
"""Keys under which checkpoints store their state dict, in the order in which they are tried."""


@dataclass(frozen=True)
class Converted:
    """The converted encoder; `prefix` is what was removed from the file's names, `dropped` the parts left out."""

    encoder: weights.Encoder
    prefix: str
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    tensors: dict[str, Tensor]
    facts: Mapping[str, Any]
    """The file's own metadata: a safetensors header, or a checkpoint's other entries."""


def convert(
    path: Path,
    *,
    layout: str = "auto",
    architecture: str | None = None,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    prefix: str | None = None,
) -> Converted:
    """Converts the encoder in `path`, a pickle or safetensors.

    `layout` is a name of LAYOUTS or auto. Mean and deviation are those given, else those in the file, else the
    layout's; where there are none the file is refused, as the encoder would get images normalised otherwise than in
    its training. Raises UserError.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(f"There is no layout {layout}; there are: auto, {', '.join(LAYOUTS)}.")
    if architecture is not None and architecture not in ENCODERS:
        raise UserError(f"There is no encoder called {architecture}; there are: {', '.join(ENCODERS)}.")
    digest = _digest(path)
    file = _read(path)
    known = LAYOUTS[layout] if layout != "auto" else _layout_of(path, digest)
    found = state_dicts.encoder_in(
        file.tensors,
        source=path.name,
        architecture=architecture or _stated_architecture(file),
        prefix=prefix,
    )
    stated_mean, stated_deviation = _stated(file)
    return Converted(
        encoder=weights.Encoder(
            tensors=found.tensors,
            architecture=found.architecture,
            channels=found.channels,
            mean=_fact("mean", mean, stated_mean, known.mean if known else None, found=found, source=path.name),
            deviation=_fact(
                "deviation",
                deviation,
                stated_deviation,
                known.deviation if known else None,
                found=found,
                source=path.name,
            ),
            facts={
                "origin": _origin(file, known, digest=digest, architecture=found.architecture),
                "source": known.source if known else str(file.facts.get("source", path.name)),
                "source_sha256": digest,
            },
        ),
        prefix=found.prefix,
        dropped=found.dropped,
    )


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _read(path: Path) -> _File:
    with open(path, "rb") as file:
        start = file.read(9)
    # A safetensors file begins with the length of its header, then the header's opening brace.
    if start[8:] == b"{":
        found = weights.load(path)
        return _File(tensors=found.tensors, facts=found.facts)
    return _unpickled(path)


def _unpickled(path: Path) -> _File:
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise UserError(
                f"{path.name} is a pickle that holds more than tensors, and opening it would run what is in it. It was "
                "not opened. Have whoever made it save the state dict alone, or as safetensors."
            ) from error
        raise UserError(f"{path.name} is not a file of weights, or is damaged: {_first_line(error)}") from error
    except Exception as error:  # a hostile file may raise anything while it is parsed
        raise UserError(f"{path.name} is not a file of weights, or is damaged: {_first_line(error)}") from error
    if not isinstance(whole, Mapping):
        raise UserError(f"{path.name} holds no state dict, but a {type(whole).__name__}. Save the state dict alone.")
    tensors = _state_dict(whole)
    if not tensors:
        keys = ", ".join(str(key) for key in list(whole)[:5])
        raise UserError(f"{path.name} holds no state dict; its entries are: {keys}. Save the state dict alone.")
    facts = {str(key): value for key, value in whole.items() if not isinstance(value, Tensor | Mapping)}
    return _File(tensors=tensors, facts=facts)


def _state_dict(whole: Mapping[Any, Any]) -> dict[str, Tensor]:
    for key in _INSIDE:
        inner = whole.get(key)
        if isinstance(inner, Mapping) and (found := _tensors(inner)):
            return found
    return _tensors(whole)


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in mapping.items() if isinstance(value, Tensor)}


def _first_line(error: BaseException) -> str:
    return f"{(str(error) or type(error).__name__).splitlines()[0]}"


def _layout_of(path: Path, digest: str) -> Layout | None:
    """The layout of a published file, recognised by its hash or its name; None for other files."""
    if any(digest.startswith(file.hash_prefix) for file in imagenet.FILES.values()):
        return LAYOUTS["torchvision"]
    return next((known for known in LAYOUTS.values() if known.files and path.name.startswith(known.files)), None)


def _stated_architecture(file: _File) -> str | None:
    stated = file.facts.get("architecture", file.facts.get("arch"))
    return stated if isinstance(stated, str) and stated in ENCODERS else None


def _stated(file: _File) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Mean and deviation from the file's metadata: under our names, or as cem-dataset's pair `norms`."""
    norms = file.facts.get("norms")
    if isinstance(norms, list | tuple) and len(norms) == 2:
        mean, deviation = norms
        return (_listed(mean), _listed(deviation))
    return (_listed(file.facts.get("mean")), _listed(file.facts.get("deviation")))


def _listed(value: Any) -> Sequence[float] | None:
    if isinstance(value, int | float):
        return [float(value)]
    if isinstance(value, list | tuple) and value and all(isinstance(v, int | float) for v in value):
        return [float(v) for v in value]
    return None


def _fact(
    name: str,
    given: Sequence[float] | None,
    stated: Sequence[float] | None,
    known: Sequence[float] | None,
    *,
    found: Found,
    source: str,
) -> tuple[float, ...]:
    """The first of the three that is available, one value per channel."""
    values = next((values for values in (given, stated, known) if values), None)
    if values is None:
        raise UserError(
            f"{source} does not say the {name} with which its encoder was trained. Say where it comes from with "
            f"--layout ({', '.join(LAYOUTS)}), or give --mean and --deviation, one value per channel in 0..1."
        )
    if len(values) == 1:
        values = list(values) * found.channels
    if len(values) != found.channels:
        raise UserError(
            f"The encoder in {source} has {found.channels} channels, and the {name} has {len(values)} values. Give one "
            "value per channel, or choose another layout."
        )
    if not all(math.isfinite(v) and (name == "mean" or v > 0) for v in values):
        raise UserError(f"The {name} must be numbers{'' if name == 'mean' else ' greater than 0'}: {list(values)}.")
    return tuple(float(v) for v in values)


def _origin(file: _File, known: Layout | None, *, digest: str, architecture: str) -> str:
    """The origin: imagenet only for files that torchvision published, as its names alone do not prove the training."""
    if known is not None:
        is_published = architecture in imagenet.FILES and digest.startswith(imagenet.FILES[architecture].hash_prefix)
        return known.origin if known.origin != "imagenet" or is_published else "imported"
    stated = file.facts.get("origin")
    return stated if isinstance(stated, str) else "imported"
