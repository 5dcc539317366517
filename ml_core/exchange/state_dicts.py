"""Finds an encoder in another program's state dict: under prefixes, beside heads and momentum copies, with one channel
or three."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ml_core.errors import UserError
from ml_core.models import encoders
from ml_core.specs.architectures import ENCODERS

_SLOW_COPIES = ("encoder_k", "key_encoder", "target", "teacher", "momentum", "ema")
"""Other programs' names of the momentum copy of the trained network (MoCo's key encoder, BYOL's target)."""

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Found:
    """An encoder in another program's state dict: its tensors under our names, float32, and the parts left out."""

    architecture: str
    channels: int
    tensors: dict[str, Tensor]
    prefix: str
    """The prefix of every name in the file: "module.encoder_q."."""
    dropped: tuple[str, ...]
    """Other parts of the file, by the prefixes of their names: heads, queues, momentum copies."""


@dataclass(frozen=True)
class _Fit:
    """How well a state dict fits an architecture under a prefix; `wrong` describes each mismatch."""

    architecture: str
    channels: int
    prefix: str
    wrong: tuple[str, ...]

    @property
    def is_slow_copy(self) -> bool:
        parts = self.prefix.split(".")
        return any(part.startswith(_SLOW_COPIES) for part in parts)


def encoder_in(
    tensors: Mapping[str, Tensor], *, source: str, architecture: str | None = None, prefix: str | None = None
) -> Found:
    """Finds the encoder in `tensors`; with `architecture` None also detects which of our architectures it is.

    Every tensor of the encoder must be present in its shape, and no other tensor may belong to one of its parts (such
    as a further `layer1.3`): heads are left out, another network is refused. Raises UserError, which names `source`
    and the first mismatch.
    """
    fits: list[_Fit] = []
    for name in [architecture] if architecture else ENCODERS:
        fits += _fits(tensors, name, prefix=prefix)
        if any(not fit.wrong and not fit.is_slow_copy for fit in fits):
            break
    if not fits:
        raise UserError(
            f"There is no encoder in {source}: its first tensors are {', '.join(list(tensors)[:3]) or 'none'}. "
            f"Known are {', '.join(ENCODERS)}, by the names of torchvision and segmentation_models_pytorch."
        )
    best = min(fits, key=lambda fit: (len(fit.wrong), fit.is_slow_copy))
    if best.wrong:
        raise UserError(
            f"The weights in {source} do not fit a {best.architecture}; differences: {len(best.wrong):,}, first "
            f"{best.wrong[0]}. Choose the architecture that they were made with."
        )
    alike = [fit for fit in fits if not fit.wrong and fit.is_slow_copy == best.is_slow_copy]
    if len(alike) > 1:
        raise UserError(
            f"{source} holds several encoders, under {', '.join(repr(fit.prefix) for fit in alike)}. Say which with "
            "--prefix."
        )
    return _taken(tensors, best)


def _fits(tensors: Mapping[str, Tensor], architecture: str, *, prefix: str | None) -> Iterator[_Fit]:
    """One fit per prefix under which the first convolution of `architecture` is found."""
    stem = next(name for name, value in _shapes(architecture, encoders.CHANNELS).items() if value.dim() == 4)
    for name in [name for name in tensors if name == stem or name.endswith(f".{stem}")]:
        before = name.removesuffix(stem)
        if prefix is not None and before != prefix:
            continue
        if tensors[name].dim() != 4:
            continue
        channels = tensors[name].shape[1]
        try:
            own = _shapes(architecture, channels)
        except UserError:  # an architecture of one channel only
            own = _shapes(architecture, encoders.CHANNELS)
        yield _Fit(architecture, channels, before, tuple(_mismatches(tensors, own, prefix=before)))


def _shapes(architecture: str, channels: int) -> Mapping[str, Tensor]:
    """The encoder's tensors without data (on the meta device)."""
    with torch.device("meta"):
        return dict(encoders.build(architecture, channels=channels).state_dict())


def _mismatches(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], *, prefix: str) -> Iterator[str]:
    for name, value in own.items():
        given = tensors.get(prefix + name)
        if given is None and not name.endswith(_COUNTER):
            yield f"{prefix}{name} is missing"
        elif given is not None and given.shape != value.shape:
            yield f"{prefix}{name} is {tuple(given.shape)} and not {tuple(value.shape)}"
    parts = {name.split(".")[0] for name in own}
    for name in tensors:
        inside = name.removeprefix(prefix)
        if name.startswith(prefix) and inside not in own and inside.split(".")[0] in parts:
            yield f"{name}, which it does not have"


def _taken(tensors: Mapping[str, Tensor], fit: _Fit) -> Found:
    own = _shapes(fit.architecture, fit.channels)
    taken = {}
    for name, value in own.items():
        given = tensors.get(fit.prefix + name)
        # State dicts from before PyTorch 0.4.1 have no batch counters, and evaluation does not read them.
        taken[name] = torch.zeros((), dtype=torch.long) if given is None else given.detach().to(value.dtype)
    others = [name for name in tensors if name.removeprefix(fit.prefix) not in own or not name.startswith(fit.prefix)]
    return Found(
        architecture=fit.architecture,
        channels=fit.channels,
        tensors=taken,
        prefix=fit.prefix,
        dropped=tuple(dict.fromkeys(_part(name, fit.prefix) for name in others)),
    )


def _part(name: str, prefix: str) -> str:
    """The prefix of a tensor's name that identifies its part of the file."""
    if name.startswith(prefix):
        return prefix + name.removeprefix(prefix).split(".")[0]
    return ".".join(name.split(".")[: prefix.count(".") or 1])
