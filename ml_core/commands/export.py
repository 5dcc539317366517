"""`python -m ml_core export`: a trained model for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ml_core.errors import UserError
from ml_core.job.reporting import DONE

FORMATS = {"torch-export": ".pt2", "torchvision": ".safetensors", "smp": ".safetensors"}


def add(commands: Any) -> None:
    """Adds the command to a parser's subparsers."""
    export = commands.add_parser("export", help="a trained model of any kind for other programs")
    export.add_argument("model", type=Path, help="the model, as a job left it: .safetensors")
    export.add_argument("--out", type=Path, required=True, help="the file to write")
    export.add_argument(
        "--format",
        default="torch-export",
        metavar="NAME",
        help="torch-export: a graph with its normalisation, for a stated size. torchvision, smp: the weights by the "
        "names of these libraries",
    )
    export.add_argument("--size", type=int, help="side of the images in px (as the model was trained)")
    export.add_argument("--batch", type=int, default=1, help="images at once (1)")
    export.set_defaults(command=command)


def command(options: argparse.Namespace) -> int:
    _check(options)
    from ml_core.exchange import model_export as export
    from ml_core.models.trained_model import ANSWERS, load_model

    model = load_model(options.model)
    if options.format != "torch-export":
        lines = export.export_state(model, options.out, layout=options.format)
        print(f"{options.out}: the {model.kind}'s weights by the names of {options.format}. To load them:\n")
        print("\n".join(f"    {line}" for line in lines))
        return DONE
    size = options.size or model.image_size
    off = export.export_graph(model, options.out, size=size, batch=options.batch)
    print(
        f"{options.out}: grey images ({options.batch}, 1, {size}, {size}) in 0..1 to {ANSWERS[model.kind]}; "
        f"read again, it differs from the model by {off:.0e} of the largest. To load it:\n"
    )
    print(f'    import torch\n    model = torch.export.load("{options.out.name}").module()')
    return DONE


def _check(options: argparse.Namespace) -> None:
    if options.format in ("torchscript", "script", "jit"):
        raise UserError(
            "TorchScript is not offered: PyTorch has deprecated it, and it cannot hold the attention layer. Take "
            "--format torch-export, which the same programs read."
        )
    if options.format not in FORMATS:
        raise UserError(f"There is no format {options.format}; there are: {', '.join(FORMATS)}.")
    suffix = FORMATS[options.format]
    if options.out.suffix != suffix:
        raise UserError(f"The format {options.format} is written to a file that ends in {suffix}.")
