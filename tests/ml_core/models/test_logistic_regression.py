"""Logistic regression: scikit-learn's own answers, whatever the scale of the features, and what a step is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import nn

from ml_core.models.logistic_regression import (
    ITERATIONS,
    WEIGHT_DECAYS,
    Batches,
    Convergence,
    Examples,
    Scale,
    evaluated,
)
from ml_core.recipes.classify_evaluation import converged_regression


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads on sums as small as these spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _examples(count: int, *, features: int = 40, classes: int = 3, seed: int = 0, spread: float = 2.0) -> Examples:
    """Overlapping clouds, one per class; about four of five can be told."""
    chance = np.random.default_rng(7)
    middles = chance.normal(0, spread / np.sqrt(features), (classes, features))
    chance = np.random.default_rng(seed)
    y = chance.integers(0, classes, count)
    x = middles[y] + chance.normal(0, 1, (count, features))
    return Examples(torch.from_numpy(x).float(), torch.from_numpy(y))


@pytest.fixture(scope="module")
def converged_path() -> dict[float, nn.Linear]:
    """The regression at the end of each weight decay."""
    descent, found = Convergence(_examples(600), classes=3, epochs=20), {}
    for step in range(1, descent.total_steps + 1):
        descent.step(step)
        if descent.offers(step):
            kept = nn.Linear(40, 3)
            kept.load_state_dict(descent.linear.state_dict())
            found[descent.weight_decay(step)] = kept
    return found


@pytest.mark.parametrize("weight_decay", WEIGHT_DECAYS)
def test_it_converges_to_scikit_learns_answer(converged_path: dict[float, nn.Linear], weight_decay: float) -> None:
    train, held = _examples(600), _examples(4000, seed=1)
    oracle = LogisticRegression(C=1 / (weight_decay * 600), tol=1e-8, max_iter=10_000)
    oracle.fit(train.x.double().numpy(), train.y.numpy())
    ours = converged_path[weight_decay]
    assert evaluated(ours, held)[1] == pytest.approx(oracle.score(held.x.numpy(), held.y.numpy()), abs=0.002)
    probabilities = ours(held.x).softmax(dim=1).detach().numpy()
    assert np.abs(probabilities - oracle.predict_proba(held.x.numpy())).max() < 2e-3


@pytest.mark.parametrize("classes", [2, 3])
def test_grey_values_are_read_by_the_regression_of_least_validation_loss(classes: int) -> None:
    train, validation, held = (_examples(count, classes=classes, seed=s) for s, count in enumerate((600, 500, 4000)))
    descent, found = Convergence(train, classes=classes, epochs=20), {}
    for step in range(1, descent.total_steps + 1):
        descent.step(step)
        if descent.offers(step):
            found[evaluated(descent.linear, validation)[0]] = (
                descent.weight_decay(step),
                evaluated(descent.linear, held)[1],
            )
    decay, accuracy = found[min(found)]
    assert decay not in (WEIGHT_DECAYS[0], WEIGHT_DECAYS[-1])
    chosen = converged_regression(
        train.x.double().numpy(), train.y.numpy(), validation=(validation.x.double().numpy(), validation.y.numpy())
    )
    probabilities = chosen.predict_proba(validation.x.double().numpy())
    assert log_loss(validation.y.numpy(), probabilities) == pytest.approx(min(found), abs=1e-4)
    assert chosen.score(held.x.double().numpy(), held.y.numpy()) == pytest.approx(accuracy, abs=0.002)


def test_each_weight_decay_begins_without_the_curvature_of_the_one_before() -> None:
    descent = Convergence(_examples(200), classes=3, epochs=2)
    for step in range(1, 4):
        descent.step(step)
    assert descent.optimizer.state[descent.linear.weight]["n_iter"] <= ITERATIONS, (
        "the third step is the second's first"
    )


def test_a_stopped_descent_goes_on_as_if_it_had_not_been() -> None:
    train = _examples(200)
    straight = Convergence(train, classes=3, epochs=3)
    losses = [float(straight.step(step)) for step in range(1, straight.total_steps + 1)]
    first, second = (Convergence(train, classes=3, epochs=3) for _ in range(2))
    for step in range(1, 6):
        first.step(step)
    second.linear.load_state_dict(first.linear.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    rest = [float(second.step(step)) for step in range(6, second.total_steps + 1)]
    assert rest == losses[5:]
    assert torch.equal(second.linear.weight, straight.linear.weight)


def test_adam_sees_every_example_once_in_each_epoch() -> None:
    train = _examples(50)
    seen: list[int] = []
    descent = Batches(train, classes=3, epochs=2, batch_size=20, learning_rate=1e-3, seed=0)
    descent.linear.register_forward_pre_hook(
        lambda _module, given: seen.extend(int((train.x == row).all(dim=1).nonzero()) for row in given[0])
    )
    for step in range(1, descent.total_steps + 1):
        descent.step(step)
        assert descent.offers(step) == (step in (3, 6))
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50))
    assert seen[:50] != seen[50:]


def test_adams_first_step_moves_every_weight_by_the_rate() -> None:
    descent = Batches(_examples(50), classes=3, epochs=1, batch_size=50, learning_rate=3e-4, seed=0)
    before = descent.linear.weight.detach().clone()
    descent.step(1)
    moved = (descent.linear.weight.detach() - before).abs()
    assert moved.numpy() == pytest.approx(3e-4, rel=0.01)


def test_a_scale_folded_into_the_weights_gives_the_same_answers_on_bare_features() -> None:
    x = torch.randn(300, 20, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 20) + 50
    x[:, 4] = 7.1  # a feature that never varies
    scale = Scale.of(x)
    scaled = scale(x)
    assert scaled.isfinite().all()
    assert scaled[:, 5:].std(dim=0, correction=0).numpy() == pytest.approx(1, abs=1e-3)
    assert scaled[:, 4].abs().max() < 1e-4
    linear, folded = nn.Linear(20, 3), nn.Linear(20, 3)
    with torch.no_grad():
        for own, value in zip(folded.parameters(), scale.folded_into(linear), strict=True):
            own.copy_(value)
    usable = x.double(), scaled.double()
    bare, expected = folded.double()(usable[0]), linear.double()(usable[1])
    # float32 weights on features of 50 +- 0.001 keep about three digits of what those say.
    assert (bare - expected).abs().max() < 0.05


def test_no_scale_leaves_features_as_they_are() -> None:
    x = torch.rand(4, 3)
    assert torch.equal(Scale.none(x)(x), x)
