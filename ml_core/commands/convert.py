"""`python -m ml_core convert`: an encoder from elsewhere becomes a safetensors file with all facts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ml_core.errors import UserError
from ml_core.job.reporting import DONE
from ml_core.specs.architectures import ENCODERS

LAYOUTS = ("auto", "torchvision", "moco", "cem500k-mocov2", "cem1.5m-swav")
"""As `ml_core.exchange.conversion` has them; it loads torch, and help needs none."""


def add(commands: Any) -> None:
    """Adds the command to a parser's subparsers."""
    convert = commands.add_parser(
        "convert", help="bring in an encoder's weights from elsewhere: a pickle of tensors, or safetensors"
    )
    convert.add_argument("file", type=Path, help="the weights: .pth, .pt, .pth.tar, .safetensors")
    convert.add_argument("--out", type=Path, required=True, help="the encoder, as safetensors")
    convert.add_argument(
        "--layout", default="auto", metavar="NAME", help=f"where they come from: {', '.join(LAYOUTS)} (auto)"
    )
    convert.add_argument(
        "--architecture", choices=list(ENCODERS), help="which encoder it is, where the file leaves that open"
    )
    convert.add_argument("--mean", type=_numbers, metavar="M[,M,M]", help="mean per channel in training, in 0..1")
    convert.add_argument("--deviation", type=_numbers, metavar="D[,D,D]", help="deviation per channel, in 0..1")
    convert.add_argument("--prefix", help="what stands before the encoder's names, where the file holds several")
    convert.set_defaults(command=command)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def command(options: argparse.Namespace) -> int:
    from ml_core.exchange import conversion
    from ml_core.runtime import weights

    if options.out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors, and {options.out.name} does not.")
    found = conversion.convert(
        options.file,
        layout=options.layout,
        architecture=options.architecture,
        mean=options.mean,
        deviation=options.deviation,
        prefix=options.prefix,
    )
    weights.save_encoder(options.out, found.encoder)
    encoder = found.encoder
    count = sum(tensor.numel() for name, tensor in encoder.tensors.items() if tensor.is_floating_point())
    print(f"{options.out}: {ENCODERS[encoder.architecture]}, {count:,} numbers, from {encoder.facts['source']}")
    print(f"  channels   {encoder.channels}")
    print(f"  mean       {', '.join(f'{value:g}' for value in encoder.mean)}")
    print(f"  deviation  {', '.join(f'{value:g}' for value in encoder.deviation)}")
    if found.prefix:
        print(f"  taken from {found.prefix}*")
    if found.dropped:
        print(f"  left out   {', '.join(found.dropped)}")
    return DONE
