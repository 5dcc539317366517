"""Pretraining: BYOL on pairs of views of unlabelled micrographs (paper, section IV; Grill et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from ml_core.data.loading.view_pairs import Pairs, source_size
from ml_core.data.manifests.manifest import Manifest
from ml_core.errors import UserError
from ml_core.imaging.picture_sheets import fitted, sheet, write_png
from ml_core.job import checkpoints
from ml_core.metrics.collapse import CollapseWatch
from ml_core.metrics.knn import LabelledParts, knn_accuracy, labelled_parts
from ml_core.models import encoders
from ml_core.models.byol import BYOL, Output, effective_rank, embedding_std, momentum_at
from ml_core.recipes.dataset_inputs import open_images, open_manifest
from ml_core.runtime import weights
from ml_core.runtime.sampler import ResumableSampler
from ml_core.runtime.training_loop import Context, Loop
from ml_core.specs import PretrainSpec

SHOWN = 6
"""Pairs on a sheet."""


def run(context: Context[PretrainSpec]) -> None:
    """Trains an encoder on pairs of views and saves it as the artifact `encoder`."""
    spec, device = context.spec, context.device
    manifest = open_manifest(context.inputs)
    pairs = open_pairs(context, manifest)
    judged = _evaluated(context, manifest)
    sampler = ResumableSampler(len(pairs), batch_size=spec.batch_size, seed=spec.seed)
    total_steps = spec.epochs * sampler.steps_per_epoch

    network, optimizer = begin(spec, encoder=starting_encoder(context), device=device)
    watch = CollapseWatch(context.reporter, size=spec.projection_size)
    loop = Loop(
        context,
        total_steps=total_steps,
        steps_per_epoch=sampler.steps_per_epoch,
        state={"network": network, "optimizer": optimizer, "watch": watch},
        watch=watch.update,
    )
    _note_differences(context, loop)
    for step in loop:
        view_1, view_2 = pairs.views(sampler.batch(step))
        momentum = momentum_at(step, total=total_steps, base=spec.momentum, schedule=spec.momentum_schedule)
        seen = (pairs.normalised(view_1), pairs.normalised(view_2))
        loss, embedding = learn(network, optimizer, views=seen, momentum=momentum, autocast=context.autocast)

        loop.point("loss/train", loss)
        loop.point("embedding_std", embedding_std(embedding))
        if loop.ends_window:
            loop.measure("effective_rank", effective_rank(embedding))
        if judged is not None and _is_evaluated_at(loop, every=spec.knn_every):
            accuracy = knn_accuracy(network.encoder, parts=judged, images=pairs.whole, autocast=context.autocast)
            loop.measure("knn_accuracy/validation", accuracy)
        if step == 1 or step % spec.pictures_every == 0:
            show_pairs(context, pairs, view_1, view_2, step=step)

    keep_encoder(context, network.encoder, pairs, step=loop.step)
    labels = {"knn_accuracy": watch.latest.get("knn_accuracy/validation")} if judged is not None else {}
    context.reporter.results(
        loss=watch.latest.get("loss/train"),
        embedding_std=watch.latest.get("embedding_std"),
        healthy_std=watch.healthy,
        effective_rank=watch.latest.get("effective_rank"),
        images=len(pairs),
        steps=loop.step,
        **labels,
    )


def begin(spec: PretrainSpec, *, encoder: nn.Module, device: torch.device) -> tuple[BYOL, torch.optim.Optimizer]:
    """The network around `encoder`, in training mode on the device, and the optimizer of its online half."""
    network = BYOL(encoder, hidden=spec.hidden_size, projection=spec.projection_size, batch_norm=spec.batch_norm)
    network.to(device).to(memory_format=torch.channels_last).train()
    # Fused: all parameters in one pass over memory, on the CPU as on a GPU.
    return network, torch.optim.Adam(network.online_parameters(), lr=spec.learning_rate, fused=True)


def learn(
    network: BYOL,
    optimizer: torch.optim.Optimizer,
    *,
    views: tuple[Tensor, Tensor],
    momentum: float,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Output:
    """One step: the online half by the gradient, the target by its momentum. Views are (B, 3, H, W), normalised."""
    with autocast():
        output: Output = network(*views)
    output.loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)  # here, so that gradients take no memory beside the next activations
    network.update_target(momentum)
    return output


def open_pairs(context: Context[PretrainSpec], manifest: Manifest) -> Pairs:
    """The dataset's pairs of views, with the colour planes that the views need. Raises UserError."""
    spec = context.spec
    if len(manifest) < 2:
        raise UserError("BYOL compares images and needs at least 2 images. Add some to the dataset.")
    ab = None if spec.views == "byol" else _colour(context, manifest)
    images = open_images(context, manifest, size=source_size(spec))
    return Pairs(images.array, ab=ab, spec=spec, device=context.device)


def _colour(context: Context[PretrainSpec], manifest: Manifest) -> Tensor:
    """The colour planes (N, 2, h, w) uint8 of every image, in the manifest's order. Raises UserError."""
    if context.inputs.slot("colour") is None:
        raise UserError(
            f"The views {context.spec.views} need colour planes. Run a colorize job on this dataset first and choose "
            "its result, or take the views byol, which need none."
        )
    path = context.inputs.path("colour")
    found = weights.load(path)
    ab = found.tensors.get("ab")
    if ab is None or ab.dtype != torch.uint8 or ab.dim() != 4 or ab.shape[1] != 2:
        raise UserError(f"{path.name} holds no colour planes. Choose the result of a colorize job.")
    if len(ab) != len(manifest):
        raise UserError(
            f"The colour planes are of {len(ab):,} images, and the dataset holds {len(manifest):,}. Colorize this "
            "dataset and choose that result."
        )
    if found.facts.get("manifest", manifest.sha256) != manifest.sha256:
        raise UserError(
            "The colour planes were made of another dataset, or of an earlier state of this one. Colorize this "
            "dataset as it is now and choose that result."
        )
    return ab


def starting_encoder(context: Context[PretrainSpec]) -> nn.Module:
    """The encoder to begin with: random weights, or those in the slot `start`."""
    architecture = context.spec.encoder
    encoder = encoders.build(architecture)
    if context.inputs.slot("start") is not None:
        path = context.inputs.path("start")
        start = weights.load_encoder(path)
        if start.channels != encoders.CHANNELS:
            raise UserError(
                f"{path.name} takes {start.channels} channel, and the views of a pretraining have {encoders.CHANNELS}. "
                "Start from random weights or from an encoder that was pretrained here; segment and classify take it."
            )
        encoders.load_weights(encoder, start.tensors, architecture=architecture, source=path.name)
    return encoder


def _evaluated(context: Context[PretrainSpec], manifest: Manifest) -> LabelledParts | None:
    """The labelled images on which kNN evaluates the encoder; None without labels, or where that is switched off."""
    if not context.spec.knn_every:
        return None
    parts = labelled_parts(manifest.items, seed=context.spec.seed)
    if parts is not None:
        context.reporter.note(
            f"kNN accuracy: {len(parts.reference):,} labelled images name the class of {len(parts.queries):,} others, "
            f"{len(parts.classes)} classes. The commonest class as the answer to all scores {parts.floor:.2f}. "
            f"{parts.sentence}"
        )
    return parts


def _is_evaluated_at(loop: Loop, *, every: int) -> bool:
    """At the end of each `every`-th epoch, and of the last."""
    return loop.ends_epoch and (loop.epoch % every == 0 or loop.step + 1 == loop.total_steps)


def _note_differences(context: Context[PretrainSpec], loop: Loop) -> None:
    """Warns that an extended run with a cosine momentum differs from one long run; with a constant one it does not."""
    extended = context.inputs.extend
    if extended is None or context.spec.momentum_schedule == "constant" or loop.step != checkpoints.step_of(extended):
        return
    reached = momentum_at(
        loop.step, total=loop.total_steps, base=context.spec.momentum, schedule=context.spec.momentum_schedule
    )
    context.reporter.note(
        "The earlier run's target momentum had come to 1 on its cosine. This one takes up the cosine of all "
        f"{context.spec.epochs:,} epochs where it stands, at {reached:.4f}, so the result is not that of one run of "
        "this length. For that, start a new run, or take a constant momentum.",
        level="warning",
    )


def show_pairs(context: Context[PretrainSpec], pairs: Pairs, view_1: Tensor, view_2: Tensor, *, step: int) -> None:
    """A sheet of this step's pairs: one row per view, one column per micrograph."""
    rows = [
        [fitted(picture) for picture in pairs.pictures(view[:SHOWN], second=second)]
        for view, second in ((view_1, False), (view_2, True))
    ]
    names = ("View 1", "View 2") if context.spec.views == "byol" else ("Grey", "Colour")
    pictures = sheet(rows, headings=[""] * len(rows[0]), captions=names)
    path = write_png(pictures.picture, context.artifacts / f"pairs-{step:012d}.png")
    context.reporter.artifact("pairs", path, step=step, columns=list(names), panels=pictures.panels())


def keep_encoder(context: Context[PretrainSpec], encoder: nn.Module, pairs: Pairs, *, step: int) -> None:
    """Saves the encoder as the artifact `encoder`, with its input's normalisation and the origin of its weights."""
    spec = context.spec
    kept = weights.Encoder(
        tensors=encoder.state_dict(),
        architecture=spec.encoder,
        channels=encoders.CHANNELS,
        mean=pairs.mean,
        deviation=pairs.deviation,
        facts={
            "origin": "byol" if spec.views == "byol" else "byol-colour",
            "step": step,
            "image_size": spec.image_size,
            "colour_space": None if spec.views == "byol" else spec.colour_space,
        },
    )
    path = context.artifacts / "encoder.safetensors"
    weights.save_encoder(path, kept)
    facts = weights.encoder_facts(kept)
    context.reporter.artifact("encoder", path, **facts)
