"""The running mean of weights."""

from __future__ import annotations

import torch
from torch import nn

from ml_core.runtime.weight_average import WeightAverage


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))


def test_it_is_the_mean_by_its_own_formula_statistics_and_counters_included() -> None:
    network = _network()
    average = WeightAverage(network, keep=0.6)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(1, 9):
        network.train()(torch.rand(2, 1, 8, 8)).sum().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        average.update(step=step)
        keep = min(0.6, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            mean = expected[name] * keep + value * (1 - keep)
            expected[name] = mean if value.is_floating_point() else value.clone()
    for name, value in average.module.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6), name
    assert average.module[1].num_batches_tracked == 8


def test_it_leaves_the_network_alone_and_learns_nothing_itself() -> None:
    network = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    average = WeightAverage(network, keep=0.9)
    average.update(step=1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not average.module.training
    assert not any(p.requires_grad for p in average.module.parameters())
    assert all(p.requires_grad for p in network.parameters())


def test_a_loaded_mean_goes_on_from_where_it_was() -> None:
    network = _network()
    average = WeightAverage(network, keep=0.9)
    average.update(step=1)
    state = {name: value.clone() for name, value in average.state_dict().items()}
    other = _network()
    with torch.no_grad():
        other[0].weight.mul_(2)
    second = WeightAverage(other, keep=0.9)
    other.load_state_dict(network.state_dict())
    second.load_state_dict(state)
    for step in (2, 3):
        with torch.no_grad():
            for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
                mine.add_(step), theirs.add_(step)
        average.update(step=step), second.update(step=step)
    assert all(torch.equal(v, second.module.state_dict()[n]) for n, v in average.module.state_dict().items())
