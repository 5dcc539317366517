"""`python -m ml_core describe`: what a job, a model or an encoder is and costs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_core.commands.run import read_spec
from ml_core.errors import UserError
from ml_core.job.reporting import DONE
from ml_core.specs import Spec, differences
from ml_core.specs.architectures import ENCODERS, fitting

if TYPE_CHECKING:
    from ml_core.models.costs import Cost

_MIB, _GIB = 2**20, 2**30


def add(commands: Any) -> None:
    """Adds the command to a parser's subparsers."""
    describe = commands.add_parser("describe", help="parameters, multiply-adds and memory of a job, model or encoder")
    describe.add_argument(
        "what", help=f"a specification (.json), a model (.safetensors) or an encoder: {', '.join(ENCODERS)}"
    )
    describe.add_argument("--size", type=int, help="side of the image in px that multiply-adds are counted for")
    describe.set_defaults(command=command)


def command(options: argparse.Namespace) -> int:
    path = Path(options.what)
    if options.what in ENCODERS:
        lines = _encoder(options.what, size=options.size or 224)
    elif path.suffix == ".safetensors":
        lines = _model(path, size=options.size)
    elif path.suffix == ".json" or path.is_file():
        lines = _spec(read_spec(path))
    else:
        raise UserError(
            f"{options.what} is neither a specification (.json), nor a model (.safetensors), nor an encoder "
            f"({', '.join(ENCODERS)})."
        )
    for line in lines:
        print(line)
    return DONE


def _encoder(architecture: str, *, size: int) -> Iterator[str]:
    from ml_core.models import costs

    yield from _cost(costs.of_encoder(architecture, size=fitting(size)))


def _model(path: Path, *, size: int | None) -> Iterator[str]:
    from ml_core.models import costs
    from ml_core.models.trained_model import load_model

    model = load_model(path)
    name = f"{path.name}: {model.kind}, {ENCODERS.get(model.architecture, model.architecture)}"
    yield from _cost(costs.of_module(model.module, network=name, size=fitting(size or model.image_size)))
    yield from _facts(model.facts)


def _spec(spec: Spec) -> Iterator[str]:
    from ml_core.models import costs

    changed = differences(spec)
    preset = f", preset {spec.preset}" if spec.preset != "own" else ""
    yield f"{spec.kind}{preset}{' with changes' if changed else ''}"
    for name, (theirs, own) in changed.items():
        yield f"  {name}  {own} (preset: {theirs})"
    yield from _cost(costs.of_spec(spec))


def _cost(cost: Cost) -> Iterator[str]:
    yield cost.network
    some = "all" if cost.trained == cost.parameters else f"{cost.trained:,} of them"
    trained = f", {some} trained" if cost.memory else ""
    yield f"  parameters     {cost.parameters:,}{trained}"
    yield f"  multiply-adds  {cost.multiply_adds / 1e9:.2f} G forward, per image of {cost.size} x {cost.size}"
    if cost.memory is None:
        return
    memory = cost.memory
    yield f"  memory         about {_bytes(memory.total)} in training, batch {cost.batch:,}, {cost.precision}"
    for name, size in (
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("kept for the backward pass", memory.kept),
        ("its workspace", memory.total - memory.weights - memory.gradients - memory.optimizer - memory.kept),
    ):
        yield f"    {_bytes(size):>10}   {name}"


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    widest = max((len(name) for name in facts), default=0)
    for name, value in sorted(facts.items()):
        yield f"  {name.ljust(max(widest, 13))}  {value}"


def _bytes(count: float) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / _MIB:,.0f} MiB"
