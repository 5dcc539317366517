"""Evaluates an encoder on labels by weighted nearest neighbours of its features (Wu et al. 2018, arXiv:1805.01978)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ml_core.data.manifests.manifest import ManifestItem
from ml_core.data.manifests.splits import split
from ml_core.models.encoders import features

NEIGHBOURS = 20
TEMPERATURE = 0.07
MOST = 2000
"""At most this many reference images and this many queries: more cost time and change accuracy by a point."""
BATCH = 64
QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class LabelledParts:
    """Positions in the manifest: `reference` (R,) vote, `queries` (Q,) are classified. Labels index `classes`.

    `floor` is the accuracy on the queries of always predicting the reference's most frequent class.
    """

    reference: NDArray[np.int64]
    queries: NDArray[np.int64]
    reference_labels: NDArray[np.int64]
    query_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    sentence: str

    @property
    def floor(self) -> float:
        commonest = np.bincount(self.reference_labels).argmax()
        return float((self.query_labels == commonest).mean())


def labelled_parts(items: Sequence[ManifestItem], *, seed: int, most: int = MOST) -> LabelledParts | None:
    """The labelled items in two parts by the rules of `data.manifests.splits`, at most `most` of each, evenly spread.

    The same items and the same seed give the same parts. None where the reference has fewer than two classes, as any
    prediction would then be right, and where there are no queries.
    """
    labelled = [position for position, item in enumerate(items) if item.label]
    if len(labelled) < 2:
        return None
    parts = split(items, chosen=labelled, seed=seed)
    reference, queries = _spread(parts.train, most), _spread(parts.validation, most)
    classes = sorted({items[p].label for p in (*reference, *queries)})
    places = {name: place for place, name in enumerate(classes)}
    votes = np.asarray([places[items[p].label] for p in reference], np.int64)
    truth = np.asarray([places[items[p].label] for p in queries], np.int64)
    if len(queries) == 0 or len(np.unique(votes)) < 2:
        return None
    return LabelledParts(reference, queries, votes, truth, tuple(classes), parts.sentence)


def predicted(
    queries: Tensor,
    *,
    reference: Tensor,
    labels: Tensor,
    classes: int,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """The class of each query (Q, D) by the votes of the reference (R, D) with `labels` (R,) long; shape (Q,).

    Each of the `neighbours` nearest votes for its class with the weight exp(cosine / temperature) (section 3.4 there).
    """
    unit = functional.normalize(reference.float(), dim=1)
    one_hot = functional.one_hot(labels, classes).float()
    answers = []
    for some in functional.normalize(queries.float(), dim=1).split(QUERIES_AT_ONCE):
        cosine, nearest = (some @ unit.T).topk(min(neighbours, len(unit)), dim=1)
        # Relative to the nearest one's: the order of votes is kept, and nothing overflows at a small temperature.
        weight = ((cosine - cosine[:, :1]) / temperature).exp()
        # A matrix product instead of scatter_add, which sums in a different order each time on a GPU.
        answers.append(torch.einsum("qk,qkc->qc", weight, one_hot[nearest]).argmax(dim=1))
    return torch.cat(answers)


def knn_accuracy(
    encoder: nn.Module,
    *,
    parts: LabelledParts,
    images: Callable[[NDArray[np.int64]], Tensor],
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> float:
    """The accuracy, 0..1, of weighted nearest neighbours on the encoder's features of the queries.

    `images` gives the network's input (B, 3, H, W) for positions (B,). The encoder computes in evaluation mode and is
    left unchanged: no random numbers are drawn, and BatchNorm's statistics are not updated.
    """
    with _evaluating(encoder):
        reference = _features(encoder, parts.reference, images=images, autocast=autocast)
        queries = _features(encoder, parts.queries, images=images, autocast=autocast)
    votes = torch.from_numpy(parts.reference_labels).to(reference.device)
    answers = predicted(queries, reference=reference, labels=votes, classes=len(parts.classes))
    return float((answers.cpu() == torch.from_numpy(parts.query_labels)).float().mean())


@torch.no_grad()
def _features(
    encoder: nn.Module,
    positions: NDArray[np.int64],
    *,
    images: Callable[[NDArray[np.int64]], Tensor],
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Tensor:
    found = []
    for start in range(0, len(positions), BATCH):
        x = images(positions[start : start + BATCH])
        with autocast():
            found.append(features(encoder, x).float())
    return torch.cat(found)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Sets evaluation mode and afterwards restores each module's mode."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _spread(positions: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(positions) <= most:
        return positions
    return positions[np.linspace(0, len(positions) - 1, most).round().astype(np.int64)]
