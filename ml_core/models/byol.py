"""Bootstrap your own latent (Grill et al. 2020, arXiv:2006.07733); equation numbers are those of its section 3."""

from __future__ import annotations

import copy
import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ml_core.models.encoders import feature_size, features


def mlp(size: int, *, hidden: int, out: int) -> nn.Sequential:
    """Projector and predictor alike: linear, BatchNorm, ReLU, linear; no BatchNorm at the end (appendix J.2)."""
    return nn.Sequential(
        nn.Linear(size, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
    )


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The squared distance of normalised vectors (B, d), 2 - 2 cos, as a mean over the batch (eq. 2); shape ().

    Computed in float32 or better, whatever the network uses: near 1, bfloat16 has cosines in steps of 1/256.
    """
    full = torch.promote_types(prediction.dtype, torch.float32)
    return (2 - 2 * F.cosine_similarity(prediction.to(full), target.to(full), dim=-1)).mean()


def momentum_at(step: int, *, total: int, base: float, schedule: Literal["constant", "cosine"]) -> float:
    """The target's momentum after `step` of `total` steps: tau = 1 - (1 - base) (cos(pi k / K) + 1) / 2 (sec. 3.2)."""
    if schedule == "constant":
        return base
    return 1 - (1 - base) * (math.cos(math.pi * step / total) + 1) / 2


class Output(NamedTuple):
    """`loss` of shape (); `embedding` (2B, d), the online projections of both views, without a gradient."""

    loss: Tensor
    embedding: Tensor


class BYOL(nn.Module):
    """An online network is trained to predict, from one view of an image, a slow copy's projection of the other view.

    `batch_norm` selects the batch of BatchNorm's statistics. cat: both views in one batch; a difference between them
    that is the same for all images, such as a tint, cannot be normalised away. per_view: each view by itself, as in
    the authors' code.
    """

    def __init__(
        self, encoder: nn.Module, *, hidden: int, projection: int, batch_norm: Literal["cat", "per_view"] = "cat"
    ) -> None:
        super().__init__()
        self.batch_norm = batch_norm
        self.encoder = encoder  # f
        self.projector = mlp(feature_size(encoder), hidden=hidden, out=projection)  # g
        self.predictor = mlp(projection, hidden=hidden, out=projection)  # q
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def online_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer trains: theta. The target changes by `update_target` alone."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forward(self, view_1: Tensor, view_2: Tensor) -> Output:
        """The loss of two views (B, 3, H, W) of the same images, summed over both directions (eq. 2 and below)."""
        if self.batch_norm == "cat":
            both = torch.cat([view_1, view_2])
            online = self.projector(features(self.encoder, both))
            prediction_1, prediction_2 = self.predictor(online).chunk(2)
            with torch.no_grad():
                target_1, target_2 = self.target_projector(features(self.target_encoder, both)).chunk(2)
        else:
            online_1 = self.projector(features(self.encoder, view_1))
            online_2 = self.projector(features(self.encoder, view_2))
            online = torch.cat([online_1, online_2])
            prediction_1, prediction_2 = self.predictor(online_1), self.predictor(online_2)
            with torch.no_grad():
                target_1 = self.target_projector(features(self.target_encoder, view_1))
                target_2 = self.target_projector(features(self.target_encoder, view_2))
        loss = regression_loss(prediction_1, target_2) + regression_loss(prediction_2, target_1)
        return Output(loss, online.detach().float())

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Sets xi <- tau xi + (1 - tau) theta (eq. 1), over all tensors in a few launches instead of one each.

        BatchNorm's running statistics are the target's own: it gets the same images.
        """
        pairs = ((self.encoder, self.target_encoder), (self.projector, self.target_projector))
        online: list[Tensor] = [parameter for source, _ in pairs for parameter in source.parameters()]
        target: list[Tensor] = [parameter for _, copied in pairs for parameter in copied.parameters()]
        torch._foreach_lerp_(target, online, 1 - momentum)


def embedding_std(embedding: Tensor) -> Tensor:
    """The spread of normalised embeddings (B, d): each dimension's deviation over the batch, as a mean; shape ().

    1 / sqrt(d) where directions are spread evenly over the sphere, 0 where all embeddings are the same
    (Chen and He 2021, arXiv:2011.10566, section 4.1).
    """
    return F.normalize(embedding, dim=1).std(dim=0).mean()


def effective_rank(embedding: Tensor) -> Tensor:
    """How many dimensions normalised embeddings (B, d) fill, from 1 to min(B, d); shape ().

    The exponential of the entropy of the singular values' shares (Roy and Vetterli 2007; Garrido et al. 2023,
    arXiv:2210.02885). Taken from the smaller Gram matrix, which is cheaper than the singular values themselves.
    NaN where the embedding contains NaN.
    """
    unit = F.normalize(embedding.double(), dim=1)
    gram = unit @ unit.T if unit.shape[0] <= unit.shape[1] else unit.T @ unit
    # With NaN the solver would raise an error of its own, before the NaN loss is reported.
    finite = gram.isfinite().all()
    singular = torch.linalg.eigvalsh(gram.where(finite, 0)).clamp_min(0).sqrt()
    share = singular / singular.sum()
    return torch.special.entr(share).sum().exp().where(finite, math.nan)
