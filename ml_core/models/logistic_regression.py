"""Trains multinomial logistic regression on feature vectors: by the paper's recipe, or to convergence.

Both minimise the mean cross-entropy of softmax(W x + b); to convergence, with a weight decay: plus half of it times
the squared norm of W (not of b). scikit-learn's LogisticRegression is the same with C = 1 / (weight decay * N).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_core.runtime.sampler import ResumableSampler

WEIGHT_DECAYS = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
"""From strong to weak, each initialised with the result of the one before, which is near its optimum."""
ITERATIONS = 10
"""Iterations of L-BFGS in one step: a run can be stopped and resumed, and reports a point, between steps."""


@dataclass(frozen=True)
class Examples:
    """Feature vectors `x` (N, D) float32 and the numbers of their classes `y` (N,) int64, on one device."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Scale:
    """Standardises features: (x - mean) / deviation, each of shape (D,)."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Scale:
        """Computes the scale of the training features `x` (N, D). A constant feature is only centred."""
        mean = x.mean(dim=0)
        deviation = x.std(dim=0, correction=0)
        # Rounding makes a constant feature vary by some millionths of its size, which must not be amplified.
        constant = deviation <= 1e-6 * mean.abs().clamp_min(1e-12)
        return cls(mean, torch.where(constant, torch.ones_like(deviation), deviation))

    @classmethod
    def none(cls, x: Tensor) -> Scale:
        """A scale that leaves features unchanged."""
        return cls(x.new_zeros(x.shape[1]), x.new_ones(x.shape[1]))

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation

    def folded_into(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) that give on unscaled features what `linear` gives on scaled ones."""
        weight = linear.weight.detach().double() / self.deviation.double()
        bias = linear.bias.detach().double() - weight @ self.mean.double()
        return weight.float(), bias.float()


class Solver(Protocol):
    """A way of training: a number of steps, each of which updates `linear`."""

    linear: nn.Linear
    total_steps: int
    steps_per_epoch: int

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    def step(self, step: int) -> Tensor:
        """Runs step `step`, counted from 1; returns the cross-entropy of its training examples, of shape ()."""

    def offers(self, step: int) -> bool:
        """Whether the weights after this step are among those that validation chooses from."""


class Batches:
    """Adam at a constant rate on shuffled batches (paper, section V); every epoch's weights are offered."""

    def __init__(
        self, train: Examples, *, classes: int, epochs: int, batch_size: int, learning_rate: float, seed: int
    ) -> None:
        self._train = train
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.linear = nn.Linear(train.x.shape[1], classes).to(train.x.device)
        # Fused: a single pass over the weights, which dominate the memory traffic of such a small step.
        self.optimizer = torch.optim.Adam(self.linear.parameters(), lr=learning_rate, fused=True)
        self._sampler = ResumableSampler(len(train.y), batch_size=batch_size, seed=seed, drop_last=False)
        self.steps_per_epoch = self._sampler.steps_per_epoch
        self.total_steps = epochs * self.steps_per_epoch

    def step(self, step: int) -> Tensor:
        rows = torch.from_numpy(self._sampler.batch(step)).to(self._train.y.device)
        loss = functional.cross_entropy(self.linear(self._train.x[rows]), self._train.y[rows])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def offers(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0


class Convergence:
    """L-BFGS on all examples at once, `epochs` steps for each weight decay; each decay's last weights are offered."""

    steps_per_epoch = 1

    def __init__(self, train: Examples, *, classes: int, epochs: int) -> None:
        self._train = train
        self._epochs = epochs
        self.linear = nn.Linear(train.x.shape[1], classes).to(train.x.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.optimizer = torch.optim.LBFGS(
            self.linear.parameters(),
            max_iter=ITERATIONS,
            tolerance_grad=1e-6,
            tolerance_change=1e-10,
            history_size=20,
            line_search_fn="strong_wolfe",
        )
        self.total_steps = len(WEIGHT_DECAYS) * epochs

    def weight_decay(self, step: int) -> float:
        """The weight decay of step `step`, counted from 1."""
        return WEIGHT_DECAYS[(step - 1) // self._epochs]

    def step(self, step: int) -> Tensor:
        weight_decay = self.weight_decay(step)
        if (step - 1) % self._epochs == 0:
            # The optimizer's curvature estimate belongs to the previous weight decay's function.
            self.optimizer.state.clear()

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(self.linear(self._train.x), self._train.y)
            loss = loss + weight_decay / 2 * self.linear.weight.square().sum()
            loss.backward()
            return loss

        if not self._converged(after=(step - 1) % self._epochs):
            self.optimizer.step(closure)
        with torch.inference_mode():
            return functional.cross_entropy(self.linear(self._train.x), self._train.y).clone()

    def _converged(self, *, after: int) -> bool:
        """Whether one of the first `after` steps of this weight decay ended before its iterations: at the optimum to
        the precision of float32. Computed from state in the checkpoint, so that a resumed run agrees."""
        return int(self.optimizer.state[self.linear.weight].get("n_iter", 0)) < after * ITERATIONS

    def offers(self, step: int) -> bool:
        return step % self._epochs == 0


@torch.inference_mode()
def evaluated(linear: nn.Linear, examples: Examples) -> tuple[float, float]:
    """Cross-entropy and accuracy of `linear` on scaled examples."""
    logits = linear(examples.x)
    return (
        float(functional.cross_entropy(logits, examples.y)),
        float((logits.argmax(dim=1) == examples.y).double().mean()),
    )
