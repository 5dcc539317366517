"""BYOL is what its paper says: loss, target network, and what a collapse looks like."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
import torchvision
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import update_momentum
from torch import nn

from ml_core.metrics.collapse import WINDOWS, CollapseWatch
from ml_core.models import encoders
from ml_core.models.byol import BYOL, effective_rank, embedding_std, mlp, momentum_at, regression_loss
from tests.ml_core.reporters import Heard


class Tiny(nn.Module):
    """An encoder of one convolution, shaped like the library's."""

    out_channels = (3, 6)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, self.layer(x)]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """On one thread: these networks are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def _network(batch_norm: str = "cat") -> BYOL:
    return BYOL(Tiny(), hidden=16, projection=8, batch_norm=batch_norm)  # type: ignore[arg-type]


def test_the_loss_is_the_squared_distance_of_normalised_vectors() -> None:
    p, z = torch.randn(5, 8), torch.randn(5, 8)
    unit_p, unit_z = p / p.norm(dim=1, keepdim=True), z / z.norm(dim=1, keepdim=True)
    assert regression_loss(p, z).item() == pytest.approx((unit_p - unit_z).square().sum(1).mean().item(), rel=1e-5)
    assert regression_loss(p, 3 * p).item() == pytest.approx(0, abs=1e-6)
    assert regression_loss(p, -p).item() == pytest.approx(4, rel=1e-6)


@pytest.mark.parametrize("batch_norm", ["cat", "per_view"])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_loss_does_not_care_which_view_comes_first(batch_norm: str, count: int) -> None:
    network = _network(batch_norm)
    one, two = torch.rand(count, 3, 9, 9), torch.rand(count, 3, 9, 9)
    assert network(one, two).loss.item() == pytest.approx(network(two, one).loss.item(), rel=1e-5)


def test_both_directions_count() -> None:
    network = _network().eval()
    one, two = torch.rand(4, 3, 9, 9), torch.rand(4, 3, 9, 9)

    def online(x: torch.Tensor) -> torch.Tensor:
        return network.predictor(network.projector(network.encoder(x)[-1].mean((2, 3))))

    def target(x: torch.Tensor) -> torch.Tensor:
        return network.target_projector(network.target_encoder(x)[-1].mean((2, 3)))

    expected = regression_loss(online(one), target(two)) + regression_loss(online(two), target(one))
    assert network(one, two).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_views_that_differ_by_a_tint_are_the_same_to_per_view_batches_only() -> None:
    view = torch.rand(8, 3, 9, 9)
    seen = {}
    for batch_norm in ("cat", "per_view"):
        torch.manual_seed(1)
        embedding = _network(batch_norm)(view, view + 3).embedding
        seen[batch_norm] = (embedding[:8] - embedding[8:]).abs().max().item()
    assert seen["per_view"] < 1e-3 < seen["cat"]


def test_gradients_reach_the_online_network_and_never_the_target() -> None:
    network = _network()
    network(torch.rand(4, 3, 9, 9), torch.rand(4, 3, 9, 9)).loss.backward()
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert trained == {"encoder", "projector", "predictor"}
    ids = {id(p) for p in network.online_parameters()}
    assert ids == {id(p) for p in network.parameters() if p.grad is not None}


def test_the_target_moves_by_its_momentum_and_starts_as_a_copy() -> None:
    network = _network()
    before = [p.clone() for p in network.target_encoder.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, network.encoder.parameters(), strict=True))
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    network.update_target(0.9)
    for old, new, source in zip(before, network.target_encoder.parameters(), network.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * source)


def test_the_momentum_is_constant_or_goes_to_1_on_a_cosine() -> None:
    assert momentum_at(7, total=10, base=0.99, schedule="constant") == 0.99
    assert momentum_at(0, total=10, base=0.99, schedule="cosine") == pytest.approx(0.99)
    assert momentum_at(5, total=10, base=0.99, schedule="cosine") == pytest.approx(0.995)
    assert momentum_at(10, total=10, base=0.99, schedule="cosine") == pytest.approx(1)


def test_heads_end_without_batch_norm_and_have_the_papers_size() -> None:
    head = mlp(2048, hidden=4096, out=256)
    assert [type(layer).__name__ for layer in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert sum(p.numel() for p in head.parameters()) == 2048 * 4096 + 2 * 4096 + 4096 * 256 + 256


def test_the_spread_is_one_over_root_d_when_even_and_nothing_when_collapsed() -> None:
    assert embedding_std(torch.randn(4000, 64)).item() == pytest.approx(1 / 8, rel=0.02)
    assert embedding_std(torch.randn(64).expand(50, 64)).item() == pytest.approx(0, abs=1e-6)


def test_the_effective_rank_counts_the_dimensions_that_are_filled() -> None:
    assert effective_rank(torch.eye(5)).item() == pytest.approx(5, rel=1e-4)
    assert effective_rank(torch.randn(1, 16).expand(9, 16)).item() == pytest.approx(1, rel=1e-3)
    tall = torch.randn(200, 3) @ torch.randn(3, 32)
    assert 2 < effective_rank(tall).item() < 3.1
    x = torch.randn(12, 7)
    singular = torch.linalg.svdvals(torch.nn.functional.normalize(x, dim=1).double())
    share = singular / singular.sum()
    assert effective_rank(x).item() == pytest.approx(math.exp(-(share * share.log()).sum()), rel=1e-6)
    x[3, 2] = math.nan
    assert effective_rank(x).isnan()


def test_a_collapse_is_told_once_and_a_single_low_point_is_not_one() -> None:
    heard = Heard()
    watch = CollapseWatch(heard, size=256)
    for value in (0.06, 0.001, 0.06):
        watch.update("embedding_std", 1, value)
    assert heard.notes == []
    for _ in range(WINDOWS - 1):
        watch.update("embedding_std", 1, 0.003)
    resumed = CollapseWatch(heard, size=256)
    resumed.load_state_dict(watch.state_dict())
    for _ in range(5):
        resumed.update("embedding_std", 1, 0.003)
    assert [level for level, _ in heard.notes] == ["warning"]
    assert heard.notes[0][1].startswith("The embedding has collapsed: spread 0.003, where 0.062 is healthy.")


def test_encoders_have_their_known_sizes_and_pool_to_one_vector() -> None:
    encoder = encoders.build("resnet18")
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512
    assert encoders.features(encoder, torch.rand(2, 3, 64, 32)).shape == (2, encoders.feature_size(encoder)) == (2, 512)
    assert encoders.feature_size(encoders.build("resnet50")) == 2048


class ByLightly(nn.Module):
    """BYOL put together of lightly's parts on torchvision's ResNet, as in lightly's own example, with our weights."""

    def __init__(self, ours: BYOL, *, hidden: int, projection: int) -> None:
        super().__init__()
        self.backbone = torchvision.models.resnet18()
        self.backbone.fc = nn.Identity()  # type: ignore[assignment]
        self.backbone.load_state_dict(ours.encoder.state_dict())
        self.projection_head = BYOLProjectionHead(512, hidden, projection)
        self.projection_head.layers.load_state_dict(ours.projector.state_dict())
        self.prediction_head = BYOLPredictionHead(projection, hidden, projection)
        self.prediction_head.layers.load_state_dict(ours.predictor.state_dict())
        self.backbone_momentum = copy.deepcopy(self.backbone).requires_grad_(False)
        self.projection_head_momentum = copy.deepcopy(self.projection_head).requires_grad_(False)
        self.criterion = NegativeCosineSimilarity()

    def online(self, x: torch.Tensor) -> torch.Tensor:
        return self.prediction_head(self.projection_head(self.backbone(x).flatten(start_dim=1)))

    def target(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()

    def forward(self, x0: torch.Tensor, x1: torch.Tensor, *, batch_norm: str) -> torch.Tensor:
        """lightly's loss with the weight that its ImageNet benchmark gives it: 2 per direction, and no constant."""
        if batch_norm == "cat":
            p0, p1 = self.online(torch.cat([x0, x1])).chunk(2)
            z0, z1 = self.target(torch.cat([x0, x1])).chunk(2)
        else:  # lightly's order: all of the first view, then all of the second
            p0, z0, p1, z1 = self.online(x0), self.target(x0), self.online(x1), self.target(x1)
        return 2 * (self.criterion(p0, z1) + self.criterion(p1, z0))

    def update(self, momentum: float) -> None:
        update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)

    def as_ours(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            "encoder": self.backbone.state_dict(),
            "projector": self.projection_head.layers.state_dict(),
            "predictor": self.prediction_head.layers.state_dict(),
            "target_encoder": self.backbone_momentum.state_dict(),
            "target_projector": self.projection_head_momentum.layers.state_dict(),
        }


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["cat", "per_view"])
def test_loss_gradients_and_target_are_those_of_lightly_step_after_step(batch_norm: str) -> None:
    ours = BYOL(encoders.build("resnet18"), hidden=64, projection=16, batch_norm=batch_norm)  # type: ignore[arg-type]
    theirs = ByLightly(ours, hidden=64, projection=16)
    for network in (ours, theirs):
        network.double()  # in float32 the order of sums alone differs in the fifth digit
    optimizers = [torch.optim.SGD([p for p in n.parameters() if p.requires_grad], lr=0.02) for n in (ours, theirs)]
    for _ in range(2):
        one, two = torch.rand(2, 6, 3, 32, 32, dtype=torch.float64)
        loss, reference = ours(one, two).loss, theirs(one, two, batch_norm=batch_norm)
        # 2 - 2 cos in both directions; lightly leaves the 4 away, which has no gradient.
        torch.testing.assert_close(loss, reference + 4, atol=1e-9, rtol=0)
        for optimizer, value in zip(optimizers, (loss, reference), strict=True):
            optimizer.zero_grad()
            value.backward()
        pairs = (
            (ours.encoder, theirs.backbone),
            (ours.projector, theirs.projection_head),
            (ours.predictor, theirs.prediction_head),
        )
        for own, other in pairs:
            for a, b in zip(own.parameters(), other.parameters(), strict=True):
                assert a.grad is not None
                torch.testing.assert_close(a.grad, b.grad, atol=1e-9, rtol=1e-6)
        for optimizer in optimizers:
            optimizer.step()
        ours.update_target(0.9)
        theirs.update(0.9)
    moved = (ours.target_projector[0].weight - ours.projector[0].weight).abs().max()
    assert moved > 1e-4, "a target that never differed from the online network proves nothing"
    for name, state in theirs.as_ours().items():
        own = ours.get_submodule(name).state_dict()
        for key, value in state.items():
            torch.testing.assert_close(own[key], value, atol=1e-9, rtol=1e-6, msg=lambda m, n=f"{name}.{key}": n + m)
