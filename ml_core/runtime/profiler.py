"""What a network costs before it runs: parameters, multiply-adds, memory in training.

Networks run without their numbers (torch's fake tensors), so a batch of any size is counted in seconds and takes no
memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ml_core.specs.architectures import WORKSPACE


@dataclass(frozen=True)
class Memory:
    """Bytes of one training, by what holds them."""

    weights: int
    gradients: int
    optimizer: int
    kept: int
    """What autograd stores in the forward pass for the backward pass."""

    @property
    def total(self) -> float:
        """An estimate of the peak; the driver's own context, some hundred MiB on a GPU, comes on top."""
        return self.weights + self.gradients + self.optimizer + self.kept * WORKSPACE


@contextlib.contextmanager
def without_numbers(*modules: nn.Module) -> Iterator[None]:
    """Inside, tensors have shapes, types and a place, but no numbers. `modules` lose theirs, for good."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for part in (part for module in modules for part in module.modules()):
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(mode.from_tensor(value.detach()), value.requires_grad)
        for name, held in part._buffers.items():
            if held is not None:
                part._buffers[name] = mode.from_tensor(held)
    with mode:
        yield


def parameters(module: nn.Module, *, trained: bool = False) -> int:
    """The number of parameters of `module`, or, with `trained`, of those that require a gradient."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def multiply_adds(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of one forward pass in evaluation mode, as papers count them: products of convolutions, linear
    layers and attention; no normalisation, no activation.

    A module with a method `products(height, width)` returns what it multiplies besides its convolutions; of what
    torch's counter finds in it, only the convolutions count. (One way of computing local attention multiplies far more
    than the formula needs, another does nothing that the counter sees.)
    """
    own = _Products(module)
    counter = FlopCounterMode(display=False)
    was_training = module.training
    module.eval()
    try:
        with own, counter, torch.no_grad():
            module(*inputs)
    finally:
        module.train(was_training)
    by_module = counter.get_flop_counts()
    inside = sum(
        flops
        for name in own.names
        for operation, flops in by_module.get(name, {}).items()
        if str(operation).split(".")[-1] != "convolution"
    )
    return (counter.get_total_flops() - inside) // 2 + own.total


class _Products:
    """Adds up, during a forward pass, what the `products` methods of modules return."""

    def __init__(self, module: nn.Module) -> None:
        root = type(module).__name__
        self._module = module
        self._hooks: list[Any] = []
        self.names = [
            f"{root}.{name}" if name else root for name, part in module.named_modules() if hasattr(part, "products")
        ]
        self.total = 0

    def __enter__(self) -> None:
        for part in self._module.modules():
            if hasattr(part, "products"):
                self._hooks.append(part.register_forward_hook(self._count))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, part: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        batch, _, height, width = inputs[0].shape
        self.total += batch * part.products(height, width)


def training_memory(
    module: nn.Module, forward: Callable[[], Tensor], *, copies: int = 2, precision: torch.dtype = torch.float32
) -> Memory:
    """The memory of training `module` by `forward`, which runs it on one batch and returns the loss.

    `copies` is how many numbers the optimizer keeps for each that is trained: 2 with Adam. Counted inside of
    `without_numbers`, from the tensors that autograd saves; each storage once, weights and buffers not at all.
    """
    held = {_storage(value) for value in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # a storage that was freed could have its address taken by another

    def pack(value: Tensor) -> Tensor:
        storage = _storage(value)
        if storage not in held and storage not in kept:
            kept[storage] = value.untyped_storage().nbytes()
            alive.append(value)
        return value

    autocast = torch.autocast("cpu", dtype=precision) if precision != torch.float32 else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value), autocast:
        loss = forward()
    alive.append(loss)
    weights = sum(value.numel() * value.element_size() for value in (*module.parameters(), *module.buffers()))
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    return Memory(weights=weights, gradients=trained, optimizer=copies * trained, kept=sum(kept.values()))


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata
