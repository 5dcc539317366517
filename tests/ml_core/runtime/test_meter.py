"""Points depend on steps alone, never on when they were read."""

from __future__ import annotations

import random

import pytest
import torch

from ml_core.runtime.meter import Meter, NotFinite
from tests.ml_core.reporters import Heard


def _said(drain_at: set[int], *, every: int = 4, steps: int = 14, restart_at: int | None = None) -> Heard:
    heard = Heard()
    meter = Meter(heard, every=every)
    for step in range(1, steps + 1):
        meter.add("loss/train", step=step, value=torch.tensor(float(step)))
        if step % 3 == 0:
            meter.add("spread", step=step, value=float(-step))
        if step % 7 == 0:
            meter.measure("loss/validation", step=step, value=torch.tensor(step / 10))
        if step in drain_at:
            meter.drain(step)
        if step == restart_at:
            meter.drain(step)
            state = meter.state_dict()
            meter = Meter(heard, every=every)
            meter.load_state_dict(state)
    meter.drain(steps)
    meter.finish(steps)
    return heard


def test_a_point_is_the_mean_least_and_greatest_of_its_window() -> None:
    points = _said({2, 9}).points
    assert ("loss/train", 4, 2.5, 1.0, 4.0) in points
    assert ("loss/train", 8, 6.5, 5.0, 8.0) in points
    assert ("spread", 8, -6.0, -6.0, -6.0) in points
    assert ("loss/train", 14, 13.5, 13.0, 14.0) in points, "the last window may be shorter"
    assert ("loss/validation", 7, pytest.approx(0.7), None, None) in points


def test_the_same_is_said_in_the_same_order_however_the_clock_ran() -> None:
    once = _said(set()).points
    chance = random.Random(0)
    for _ in range(30):
        drains = {step for step in range(1, 15) if chance.random() < 0.4}
        assert _said(drains).points == once


def test_an_open_window_goes_through_a_restart() -> None:
    once = _said(set()).points
    for step in range(1, 14):
        assert _said(set(), restart_at=step).points == once


def test_a_value_is_kept_as_it_was_when_the_tensor_changes_afterwards() -> None:
    heard = Heard()
    meter = Meter(heard, every=1)
    value = torch.tensor(1.0)
    meter.add("loss/train", step=1, value=value)
    value.fill_(9.0)
    meter.drain(1)
    assert heard.curve("loss/train") == {1: 1.0}


def test_a_loss_that_is_not_finite_ends_it_at_its_own_step() -> None:
    heard = Heard()
    meter = Meter(heard, every=5)
    for step, value in enumerate([1.0, 2.0, float("nan"), float("inf")], start=1):
        meter.add("spread", step=step, value=float("nan"))
        meter.add("loss/train", step=step, value=torch.tensor(value))
    with pytest.raises(NotFinite) as caught:
        meter.drain(4)
    assert caught.value.step == 3
    name, step, value, *_ = heard.points[-1]
    assert (name, step) == ("loss/train", 3)
    assert value != value
