"""Training a colorizer on colour photographs, with the loss of Zhang, Isola and Efros (ECCV 2016)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml_core.data.arrays.prepare import prepare_colour
from ml_core.data.loading.photograph_data import Photographs, listed, with_colour
from ml_core.data.manifests.manifest import Manifest
from ml_core.data.manifests.splits import Split, split
from ml_core.errors import UserError
from ml_core.imaging.picture_sheets import fitted, sheet, write_png
from ml_core.imaging.tensor_lab import lab_to_rgb
from ml_core.metrics.colorization import ColourCounter, ColourFigures, ColourMeter, Marginal
from ml_core.models.colorizers.colour_bins import cross_entropy, encode
from ml_core.models.colorizers.network import FULL_WIDTH, cell_colours
from ml_core.models.colorizers.trained import ORIGIN, SMALL_WIDTH, TrainedColorizer
from ml_core.recipes.dataset_inputs import open_manifest, preparing
from ml_core.runtime import weights
from ml_core.runtime.sampler import ResumableSampler
from ml_core.runtime.training_loop import Best, Context, Loop
from ml_core.specs import TrainColorizerSpec

BETAS = (0.9, 0.99)
"""Adam's betas, as in the authors' training file."""
VALIDATION = 0.1
"""The share of the photographs to validate on, where the dataset does not mark them."""
VALIDATED = 500
"""The most validation photographs used at each epoch, the same ones each time; at the end all are used."""
COUNTED = 2000
"""The number of photographs, spread over the training part, on which colour frequencies are counted."""
SHOWN = 6
"""Photographs on a sheet; the same ones each time."""
SHEETS = 20
"""About so many sheets in a run, by epochs."""


def run(context: Context[TrainColorizerSpec]) -> None:
    """Trains a colorizer, keeps its weights of the best validation epoch, and evaluates those on the test part.

    Without a test part it evaluates on the validation part, and the results name the part.
    """
    spec = context.spec
    data = _photographs(context)
    small = spec.network == "small"
    network = TrainedColorizer(
        width=SMALL_WIDTH if small else FULL_WIDTH, shortcuts=small, temperature=spec.temperature
    )
    marginal = _marginal(context, data, bins=network.bins.to(context.device))
    network.begin(marginal.weighted_share)
    network.to(memory_format=torch.channels_last).to(context.device)
    sampler = ResumableSampler(len(data.split.train), batch_size=spec.batch_size, seed=spec.seed)
    total_steps = spec.epochs * sampler.steps_per_epoch
    optimizer = torch.optim.Adam(
        network.parameters(), lr=spec.learning_rate, betas=BETAS, weight_decay=spec.weight_decay, fused=True
    )
    best = Best()
    loop = Loop(
        context,
        total_steps=total_steps,
        steps_per_epoch=sampler.steps_per_epoch,
        state={"network": network, "optimizer": optimizer, "best": best},
    )
    for step in loop:
        _set_rate(optimizer, rate_at(step, total=total_steps, spec=spec))
        network.train()
        lab = data.photographs.crops(data.split.train[sampler.batch(step)], size=spec.crop_size)
        with context.autocast():
            logits = network.logits(lab[:, :1])
        truth = encode(cell_colours(lab), bins=network.bins)
        # Equation 2: each cell counts by the weight of its nearest bin.
        loss = (marginal.weights[truth.bins[:, 0]] * cross_entropy(logits, truth)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

        loop.point("loss/train", loss)
        loop.point("learning_rate", optimizer.param_groups[0]["lr"])
        if loop.ends_epoch:
            found = _evaluate(context, network, data, marginal, _spread(data.split.validation, VALIDATED))
            for name, value in found.as_points().items():
                loop.measure(name, value)
            best.offer(network, score=-found.loss, step=step)
            if loop.epoch == 1 or loop.epoch % math.ceil(spec.epochs / SHEETS) == 0 or loop.epoch == spec.epochs:
                _show(context, network, data, step=step, error=found.ab_error)

    network.load_state_dict(best.weights)
    _keep(context, network, data, step=best.step)
    _report_results(context, network, data, marginal, step=best.step, epoch=best.step // sampler.steps_per_epoch)


def rate_at(step: int, *, total: int, spec: TrainColorizerSpec) -> float:
    """The learning rate of step `step` (from 1) of `total`."""
    done = (step - 1) / total
    if spec.schedule == "cosine":
        return spec.learning_rate * (1 + math.cos(math.pi * done)) / 2
    if spec.schedule == "drops":  # The authors: a tenth at every 225,000 of 500,000 steps.
        return spec.learning_rate * 0.1 ** int(done / 0.45)
    return spec.learning_rate


@dataclass(frozen=True)
class _Data:
    photographs: Photographs
    split: Split
    manifest: Manifest


def _photographs(context: Context[TrainColorizerSpec]) -> _Data:
    """The dataset's colour photographs, in parts. Raises UserError where there are too few of them."""
    spec, inputs, reporter = context.spec, context.inputs, context.reporter
    manifest = open_manifest(inputs)
    array = prepare_colour(
        manifest,
        blobs=inputs.blobs,
        root=inputs.prepared,
        size=spec.image_size,
        progress=preparing(reporter, "Preparing photographs"),
    ).array
    coloured = with_colour(array)
    grey = [item.name for item, has in zip(manifest.items, coloured, strict=True) if not has]
    if len(grey) == len(manifest):
        raise UserError(
            f"All {len(manifest):,} images are grey: {listed(grey)}. A colorizer learns colours from photographs that "
            "have some. Choose a dataset of colour photographs."
        )
    if grey:
        count = "1 image is grey and is" if len(grey) == 1 else f"{len(grey):,} images are grey and are"
        reporter.note(f"{count} left out: {listed(grey)}.", level="warning")
    parts = split(manifest.items, chosen=np.flatnonzero(coloured), validation=VALIDATION, seed=spec.seed)
    if len(parts.train) < 2 or not len(parts.validation):
        raise UserError(
            f"The dataset has {int(coloured.sum()):,} colour photographs: too few to learn from some and to validate "
            "on others. Add some; hundreds make a colorizer, 3 are the least."
        )
    reporter.note(
        f"{parts.sentence} {len(parts.train):,} photographs to learn from, {len(parts.validation):,} to validate on, "
        f"{len(parts.test):,} to test on."
    )
    return _Data(Photographs(array, device=context.device), parts, manifest)


def _marginal(context: Context[TrainColorizerSpec], data: _Data, *, bins: Tensor) -> Marginal:
    """How common each colour is in the training photographs, and its weight in the loss."""
    counter = ColourCounter(bins=bins)
    for batch in _batches(_spread(data.split.train, COUNTED), context.spec.batch_size):
        counter.add(cell_colours(data.photographs.whole(batch)))
    return counter.marginal(balance=context.spec.balance)


def _evaluate(
    context: Context[TrainColorizerSpec],
    network: TrainedColorizer,
    data: _Data,
    marginal: Marginal,
    positions: NDArray[np.int64],
) -> ColourFigures:
    """The figures over whole photographs."""
    meter = ColourMeter(marginal, bins=network.bins, temperature=context.spec.temperature)
    network.eval()
    for batch in _batches(positions, context.spec.batch_size):
        lab = data.photographs.whole(batch)
        with torch.inference_mode(), context.autocast():
            logits = network.logits(lab[:, :1])
        meter.add(logits, cell_colours(lab))
    return meter.figures()


def _report_results(
    context: Context[TrainColorizerSpec],
    network: TrainedColorizer,
    data: _Data,
    marginal: Marginal,
    *,
    step: int,
    epoch: int,
) -> None:
    """Evaluates the best weights on the test part, where there is one."""
    part = "test" if len(data.split.test) else "validation"
    positions = data.split.test if part == "test" else data.split.validation
    found = _evaluate(context, network, data, marginal, positions)
    context.reporter.results(
        **found.as_results(),
        part=part,
        split=data.split.sentence,
        photographs=len(positions),
        best_step=step,
        best_epoch=epoch,
    )
    if found.cross_entropy >= found.marginal_cross_entropy:
        context.reporter.note(
            "The colorizer knows no more of a photograph's colours than how common each colour is. Train it longer, or "
            "on more photographs.",
            level="warning",
        )


def _show(
    context: Context[TrainColorizerSpec], network: TrainedColorizer, data: _Data, *, step: int, error: float
) -> None:
    """A sheet of validation photographs, their lightness, and the colours that the network predicts from it."""
    positions = _spread(data.split.validation, SHOWN)
    network.eval()
    lab = data.photographs.whole(positions)
    with torch.inference_mode(), context.autocast():
        ab = network(lab[:, :1])
    shown = [
        [data.photographs.picture(position) for position in positions.tolist()],
        _pictures(torch.cat([lab[:, :1], torch.zeros_like(ab)], dim=1)),
        _pictures(torch.cat([lab[:, :1], ab], dim=1)),
    ]
    names = [data.manifest.items[position].name for position in positions.tolist()]
    captions = ("Photograph", "Grey", f"With its colour ({ORIGIN})")
    pictures = sheet([[fitted(p) for p in row] for row in shown], headings=names, captions=captions)
    path = write_png(pictures.picture, context.artifacts / f"colour-pairs-{step:012d}.png")
    context.reporter.artifact(
        "colour_pairs", path, step=step, items=names, origin=ORIGIN, ab_error=error, panels=pictures.panels()
    )


def _pictures(lab: Tensor) -> list[NDArray[np.uint8]]:
    """Lab (B, 3, H, W) as pictures (H, W, 3)."""
    return list((lab_to_rgb(lab) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())


def _keep(context: Context[TrainColorizerSpec], network: TrainedColorizer, data: _Data, *, step: int) -> None:
    facts = network.facts() | {
        "step": step,
        "image_size": context.spec.image_size,
        "photographs": len(data.split.train),
        "manifest": data.manifest.sha256,
    }
    path = context.artifacts / "colorizer.safetensors"
    weights.save(path, network.state_dict(), facts=facts)
    context.reporter.artifact("colorizer", path, **facts)


def _spread(positions: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the positions, evenly spread over them."""
    return positions[np.linspace(0, len(positions) - 1, min(most, len(positions))).round().astype(np.int64)]


def _batches(positions: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
