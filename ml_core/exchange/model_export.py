"""Exports a trained model for other programs: a compiled graph at a fixed size, or a plain state dict.

TorchScript is not among the formats: PyTorch has deprecated it in favour of torch.export, and it cannot hold the
attention layer, whose computation is an autograd function of our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn

from ml_core.errors import UserError
from ml_core.exchange.imagenet import FILES as IN_TORCHVISION
from ml_core.job.files import write_whole
from ml_core.models import unet
from ml_core.models.linear_classifier import Classifier
from ml_core.models.trained_model import ColorizerModel, EncoderModel, Trained
from ml_core.models.unet import Segmenter
from ml_core.runtime import weights
from ml_core.specs.architectures import fitting

Network = EncoderModel | Segmenter | Classifier
"""The networks for which the other libraries have names."""
FORMATS = ("torch-export", "torchvision", "smp")
TOLERANCE = 1e-4
"""Greatest difference between the exported graph's and the model's output, relative to the largest output."""
FACTS = "facts.json"
"""Name of the model's facts in a .pt2: a key of `extra_files` of torch.export.load."""


def export_graph(model: Trained, path: Path, *, size: int, batch: int = 1) -> float:
    """Writes the model as a .pt2 of torch.export that takes (batch, 1, size, size) in 0..1, on the CPU.

    The graph includes normalisation; its outputs are described in `ANSWERS`. The file is loaded again and its output
    compared with the model's; returns the difference relative to the largest output. Raises UserError where this is
    more than TOLERANCE, and for a size that the network does not support.
    """
    if batch < 1:
        raise UserError(f"The batch must be of 1 image or more, and {batch} is not.")
    module: nn.Module = model.module.eval()
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(batch, 1, fitting(size), size, generator=generator)
    with torch.no_grad():
        program = torch.export.export(module, (example,))
    facts = json.dumps({**model.facts, "kind": model.kind, "size": size, "batch": batch}, default=str)

    def write(file: IO[bytes]) -> None:
        torch.export.save(program, file, extra_files={FACTS: facts})

    write_whole(path, write)
    other = torch.rand(batch, 1, size, size, generator=generator)
    with torch.no_grad():
        again = torch.export.load(path).module()(other)
        expected = module(other)
    off = float((again - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not off <= TOLERANCE:
        path.unlink()
        raise UserError(
            f"The exported graph differs from the model by {off:.1e} of its largest answer, and was not kept. Export "
            "the weights alone with --format smp."
        )
    return off


def export_state(model: Trained, path: Path, *, layout: str) -> tuple[str, ...]:
    """Writes the weights under the names of torchvision or smp, as safetensors; returns lines of code that load them.

    Raises UserError where that library does not have the network.
    """
    module = model.module
    if isinstance(module, ColorizerModel):
        raise UserError(f"{layout} has no network that colorizes. Take --format torch-export.")
    by_names = _torchvision if layout == "torchvision" else _smp
    tensors, how = by_names(module, name=model.architecture)
    weights.save(path, tensors, facts={**model.facts, "layout": layout})
    return ("from safetensors.torch import load_file", *how, f'model.load_state_dict(load_file("{path.name}"))')


def _torchvision(module: Network, *, name: str) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """A ResNet's tensors under torchvision's names; a classifier with its head, all others without."""
    if name not in IN_TORCHVISION:
        raise UserError(f"torchvision has no {name}. Take --format smp or torch-export.")
    encoder = module.network.get_submodule("encoder") if isinstance(module, Segmenter) else module.encoder
    tensors: dict[str, Tensor] = dict(encoder.state_dict())
    head = "model.fc = torch.nn.Identity()"
    if isinstance(module, Classifier):
        tensors |= {f"fc.{key}": value for key, value in module.linear.state_dict().items()}
        head = f"model.fc = torch.nn.Linear({module.linear.in_features}, {module.linear.out_features})"
    channels = tensors["conv1.weight"].shape[1]
    stem = "model.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)"
    how = ("import torch, torchvision", f"model = torchvision.models.{name}()", head)
    return tensors, (*how, stem) if channels == 1 else how


def _smp(module: Network, *, name: str) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Tensors under smp's names: a segmenter as smp's whole model, all others as smp's encoder."""
    if name == "casser":
        raise UserError("segmentation_models_pytorch has no Casser network. Take --format torch-export.")
    registers = ("import ml_core.models.encoders  # registers it",) if name.startswith("attention") else ()
    how = ("import segmentation_models_pytorch as smp", *registers)
    if not isinstance(module, Segmenter):
        channels = module.mean.shape[1]
        return module.encoder.state_dict(), (
            *how,
            f'model = smp.encoders.get_encoder("{name}", in_channels={channels}, weights=None)',
        )
    network = module.network
    outputs = 1 if module.classes == 2 else module.classes
    widths = _widths(module)
    return network.state_dict(), (
        *how,
        f'model = smp.{type(network).__name__}("{name}", encoder_weights=None, in_channels={module.mean.shape[1]}, '
        f"classes={outputs}{widths})",
    )


def _widths(module: Segmenter) -> str:
    return "".join(f", {name}={value}" for name, value in unet.WIDTHS[module.decoder][module.width].items())
