"""The training loop of every recipe, and exact resume.

A recipe is a plain `for step in loop:`. Around its body the loop reports points, writes checkpoints by the clock, stops
on request, and begins where a checkpoint left off. A resumed run is the same run, bit for bit on a CPU: the
checkpoint contains what the recipe passes as `state` (networks, optimizer, schedule), the random states, the thread
count and the open windows of points. The sampler's position follows from the step.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ml_core.errors import Stopped, UserError
from ml_core.job import checkpoints
from ml_core.job.context import PlainContext
from ml_core.job.inputs import Inputs
from ml_core.job.reporting import Reporter
from ml_core.runtime.device import choose_device, choose_precision, describe, device_name, set_threads
from ml_core.runtime.meter import Meter, NotFinite, Watch
from ml_core.runtime.sampler import ResumableSampler
from ml_core.specs import Spec, TrainingSpec, load_spec

__all__ = ["Best", "Context", "Loop", "ResumableSampler", "Stateful", "open_context", "seed_all"]

DRAIN_SECONDS = 0.25
"""Scalars leave the device at most four times a second."""

STATE = "state.pt"

S = TypeVar("S", bound=Spec)

# What may differ between a run and the one that it carries on without making it another run.
_FREE_TO_CHANGE = frozenset({"preset", "checkpoint_seconds", "threads", "prediction_flips"})


@dataclass(frozen=True)
class Context(PlainContext[S]):
    """A job that runs on a device. `precision` is float32 or bfloat16; `threads` counts torch's CPU threads."""

    device: torch.device
    precision: torch.dtype
    threads: int

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Runs matrix products and convolutions in `precision`; the rest, and all weights, stay float32."""
        if self.precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def open_context(spec: S, *, inputs: Inputs, folder: Path, reporter: Reporter) -> Context[S]:
    """Chooses device, precision and threads, seeds all random generators, and writes it all to the run record."""
    training = spec if isinstance(spec, TrainingSpec) else None
    device = choose_device()
    precision = choose_precision(device, training.precision if training else "float32")
    threads = set_threads(training.threads if training else 0)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    seed_all(spec.seed)
    reporter.record(
        device=device_name(device), precision=str(precision).removeprefix("torch."), threads=threads, **describe()
    )
    return Context(
        spec=spec, inputs=inputs, folder=folder, reporter=reporter, device=device, precision=precision, threads=threads
    )


def seed_all(seed: int) -> None:
    """Seeds Python, NumPy and torch, its devices included."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Stateful(Protocol):
    """Whatever can be in a checkpoint: modules, optimizers, schedules, `Best`, a recipe's own counters.

    The state is made of tensors, numbers, strings, None, and lists, tuples and dictionaries of these: checkpoints
    are read with `weights_only=True`.
    """

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Best:
    """The weights at the best score so far, kept on the CPU and in every checkpoint."""

    def __init__(self) -> None:
        self.score = -float("inf")
        self.step = 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, module: torch.nn.Module, *, score: float, step: int) -> bool:
        """Keeps a copy of `module`'s state if `score` beats the best so far; returns whether it did."""
        if not score > self.score:
            return False
        self.score, self.step = score, step
        self.weights = {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.score, self.step, self.weights = state["score"], state["step"], dict(state["weights"])


class Loop:
    """Steps 1 to `total_steps` of one training, from wherever its newest checkpoint left off.

        loop = Loop(context, total_steps=..., steps_per_epoch=..., state={"network": network, "optimizer": optimizer})
        for step in loop:
            ...
            loop.point("loss/train", loss)

    Everything in `state` must be on its device before the loop is made, as a checkpoint is loaded into it there.
    The random states are restored at the first step, so what the recipe draws in between has no effect on them.
    `watch` is called with every reported point. Raises UserError where a checkpoint belongs to another run, and,
    while it runs, where the loss is no longer finite; raises Stopped after the checkpoint that was requested.
    """

    def __init__(
        self,
        context: Context[Any],
        *,
        total_steps: int,
        steps_per_epoch: int,
        state: Mapping[str, Stateful],
        watch: Watch | None = None,
    ) -> None:
        self.spec: TrainingSpec = context.spec
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.step = 0
        """The last step that is done; inside the loop's body, the step before the present one."""
        self._context = context
        self._reporter = context.reporter
        self._folder = context.folder / "checkpoints"
        self._state = dict(state)
        self._meter = Meter(context.reporter, every=self.spec.points_every, watch=watch)
        self._random: Mapping[str, Any] | None = None
        self._ended = False
        self._finished = False
        self._saved_step: int | None = None
        context.reporter.record(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
        self._begin()
        self._drained_at = self._saved_at = time.monotonic()

    def __iter__(self) -> Iterator[int]:
        if self._random is not None:
            _set_random(self._random, device=self._context.device)
        self._drained_at = self._saved_at = time.monotonic()
        self._reporter.progress(self.step, self.total_steps, "steps")
        while self.step < self.total_steps:
            yield self.step + 1
            self.step += 1
            if self.step < self.total_steps:
                self._after_step()
        self._drain()
        self._save()
        self._meter.finish(self.step)
        self._ended = True

    @property
    def epoch(self) -> int:
        """The epoch of the present step, counted from 1."""
        return self.step // self.steps_per_epoch + 1

    @property
    def ends_epoch(self) -> bool:
        """Inside the loop's body: whether the present step is the last of its epoch."""
        return (self.step + 1) % self.steps_per_epoch == 0

    @property
    def ends_window(self) -> bool:
        """Inside the loop's body: whether a point is due at the present step; for costly monitors."""
        return (self.step + 1) % self.spec.points_every == 0

    def point(self, name: str, value: Tensor | float) -> None:
        """The present step's value of a quantity. A tensor of shape () stays on its device for now: no sync."""
        self._meter.add(name, step=self.step + 1, value=value)

    def measure(self, name: str, value: Tensor | float) -> None:
        """A single value (of a validation), reported with the present step, or the last one after the end."""
        if self._ended:
            self._meter.measure(name, step=self.step, value=value)
            self._drain()
        else:
            self._meter.measure(name, step=self.step + 1, value=value)

    def finish(self, sentence: str) -> None:
        """Inside the loop's body: makes the present step the last one, for the reason in `sentence`.

        The checkpoint after it remembers that, so a resumed run does not train on; one that extends it does.
        """
        self.total_steps = self.step + 1
        self._finished = True
        self._reporter.record(total_steps=self.total_steps)
        self._reporter.note(sentence)

    def _after_step(self) -> None:
        now = time.monotonic()
        stop = self._reporter.should_stop()
        due = now - self._saved_at >= self.spec.checkpoint_seconds
        if stop or due or now - self._drained_at >= DRAIN_SECONDS:
            self._drain()
        if stop or due:
            self._save()
        if stop:
            raise Stopped(f"Stopped after step {self.step:,}; the checkpoint holds all that is needed to go on.")

    def _drain(self) -> None:
        try:
            self._meter.drain(self.step)
        except NotFinite as fault:
            raise UserError(self._not_finite(fault.step)) from fault
        self._drained_at = time.monotonic()
        self._reporter.progress(self.step, self.total_steps, "steps")

    def _not_finite(self, step: int) -> str:
        rate = getattr(self.spec, "learning_rate", None)
        remedy = f"Halve the learning rate (now {rate:g})" if rate else "Lower the learning rate"
        kept = f" The checkpoint of step {self._saved_step:,} is kept." if self._saved_step else ""
        return f"The loss stopped being a finite number at step {step:,}. {remedy} and start again.{kept}"

    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self._state.items()}
        if not _all_finite(state):
            # A step's loss may be finite while its gradients are not: only the next step would show it.
            raise UserError(self._not_finite(self.step))
        whole = {
            "version": 1,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "finished": self._finished,
            "threads": torch.get_num_threads(),
            "spec": self.spec.model_dump_json(),
            "random": _get_random(device=self._context.device),
            "meter": self._meter.state_dict(),
            "state": state,
        }

        def write(file: IO[bytes]) -> None:
            torch.save(whole, file)

        path = checkpoints.save(self._folder, step=self.step, files={STATE: write})
        checkpoints.prune(self._folder)
        self._reporter.checkpoint(self.step, path)
        self._saved_step = self.step
        self._saved_at = time.monotonic()

    def _begin(self) -> None:
        """Loads the newest checkpoint of this run, or of the run that it extends, if there is one."""
        path, extends = _starting_point(self._context, self._folder)
        if path is None:
            return
        whole = torch.load(path / STATE, map_location="cpu", weights_only=True)
        self._check_same_run(whole, extends=extends)
        for name, part in self._state.items():
            try:
                part.load_state_dict(whole["state"][name])
            except (RuntimeError, KeyError, ValueError) as error:
                raise UserError(
                    f"The checkpoint {path} does not fit this run: its {name} is another. Start a new run."
                ) from error
        self._meter.load_state_dict(whole["meter"])
        self._random = whole["random"]
        self.step = self._saved_step = whole["step"]
        if whole.get("finished") and not extends:
            self.total_steps, self._finished = self.step, True
            self._reporter.record(total_steps=self.total_steps)
        # The number of threads decides in which order sums are taken, and so their last bits.
        set_threads(whole["threads"])
        self._reporter.record(**{"extended_step" if extends else "resumed_step": self.step}, threads=whole["threads"])
        verb = "Carries an earlier run on" if extends else "Resumed"
        self._reporter.note(f"{verb} after step {self.step:,} of {self.total_steps:,}.")

    def _check_same_run(self, whole: Mapping[str, Any], *, extends: bool) -> None:
        # Fields that are newer than the checkpoint have defaults that mean what was done before there were any.
        before = load_spec(json.loads(whole["spec"])).model_dump(mode="json")
        now = self.spec.model_dump(mode="json")
        free = _FREE_TO_CHANGE | ({"epochs"} if extends else set())
        changed = [name for name in now if name not in free and before.get(name) != now[name]]
        if changed:
            names = ", ".join(f"{name} (was {before.get(name)})" for name in changed)
            raise UserError(
                f"The run that this one carries on was asked for something else: {names}. "
                "Keep these as they were, or start a new run in another folder."
            )
        if whole["steps_per_epoch"] != self.steps_per_epoch:
            raise UserError(
                f"The run that this one carries on had {whole['steps_per_epoch']:,} steps per epoch, this one has "
                f"{self.steps_per_epoch:,}: its dataset was another. Start a new run."
            )
        if extends and whole["step"] >= self.total_steps:
            done = whole["step"] // self.steps_per_epoch
            raise UserError(f"The earlier run already has {done:,} epochs. Ask for more than {done:,} in all.")


def _starting_point(context: Context[Any], folder: Path) -> tuple[Path | None, bool]:
    """The checkpoint to begin from, and whether it is of another run, which this one extends."""
    inputs = context.inputs
    own = checkpoints.newest(folder)
    if own is not None:
        return own, False
    if inputs.resume is not None:
        found = inputs.resume if checkpoints.is_whole(inputs.resume) else checkpoints.newest(inputs.resume.parent)
        if found is not None:
            return found, False
        context.reporter.note(
            f"The checkpoint {inputs.resume.name} is damaged and no other is left; starting again.", level="warning"
        )
    if inputs.extend is not None:
        if not checkpoints.is_whole(inputs.extend):
            raise UserError(f"The checkpoint {inputs.extend} of the earlier run is damaged or gone. Start a new run.")
        return inputs.extend, True
    return None, False


def _all_finite(state: Any) -> bool:
    """Whether every tensor of floating point in a nested state is finite. Reads each device once."""
    bad = [(~torch.isfinite(tensor)).any() for tensor in _float_tensors(state)]
    by_device: dict[torch.device, list[Tensor]] = {}
    for flag in bad:
        by_device.setdefault(flag.device, []).append(flag)
    return not any(bool(torch.stack(flags).any()) for flags in by_device.values())


def _float_tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield state
    elif isinstance(state, Mapping):
        for part in state.values():
            yield from _float_tensors(part)
    elif isinstance(state, list | tuple):
        for part in state:
            yield from _float_tensors(part)


def _get_random(*, device: torch.device) -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = cast("tuple[str, Any, int, int, float]", np.random.get_state(legacy=True))
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _set_random(states: Mapping[str, Any], *, device: torch.device) -> None:
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, numbers, position, has_gauss, held = states["numpy"]
    np.random.set_state((name, numbers.numpy().astype(np.uint32), position, has_gauss, held))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["device"] is not None:
        torch.cuda.set_rng_state(states["device"], device)
