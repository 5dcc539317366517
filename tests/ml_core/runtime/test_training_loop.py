"""A resumed run is the same run, bit for bit; an extended one is the longer run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ml_core.errors import Stopped, UserError
from ml_core.job import checkpoints
from ml_core.job.inputs import Inputs
from ml_core.runtime.sampler import ResumableSampler
from ml_core.runtime.training_loop import Best, Context, Loop, open_context
from ml_core.specs import PretrainSpec
from tests.ml_core.reporters import Heard

STEPS_PER_EPOCH = 5


class Run:
    """A small training that draws from every source of chance, and what it said and became."""

    def __init__(self, folder: Path, *, epochs: int = 6, stop_at: int | None = None, **given: Any) -> None:
        self.heard = Heard()
        self.stop_at = stop_at
        spec = {"points_every": 4, "threads": 1, "epochs": epochs, **given.pop("spec", {})}
        self.spec = PretrainSpec(**spec)
        self.spoil_at = given.pop("spoil_at", None)
        self.finish_at = given.pop("finish_at", None)
        self.context: Context[PretrainSpec] = open_context(
            self.spec, inputs=Inputs(prepared=folder, **given), folder=folder, reporter=self.heard
        )
        self.network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.best = Best()

    def train(self) -> Run:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        sampler = ResumableSampler(23, batch_size=4, seed=self.spec.seed)
        assert sampler.steps_per_epoch == STEPS_PER_EPOCH
        data = torch.arange(23 * 4).float().reshape(23, 4) / 92
        loop = Loop(
            self.context,
            total_steps=self.spec.epochs * sampler.steps_per_epoch,
            steps_per_epoch=sampler.steps_per_epoch,
            state={"network": self.network, "optimizer": optimizer, "schedule": schedule, "best": self.best},
        )
        for step in loop:
            x = data[sampler.batch(step)] + random.random() + float(np.random.rand()) + torch.randn(4, 4)
            loss = (self.network(x) - x.sum(1, keepdim=True)).square().mean()
            if step == self.spoil_at:
                loss = loss * float("nan")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loop.point("loss/train", loss)
            if loop.ends_epoch:
                loop.measure("loss/validation", loss)
                schedule.step(loss.item())
                self.best.offer(self.network, score=-loss.item(), step=step)
            if step == self.finish_at:
                loop.finish("Enough.")
            if step == self.stop_at:
                self.heard.stop = True
        return self

    def until_stopped(self) -> Run:
        with pytest.raises(Stopped):
            self.train()
        return self

    def same_weights(self, other: Run) -> bool:
        mine, theirs = self.network.state_dict(), other.network.state_dict()
        return all(torch.equal(mine[name], theirs[name]) for name in mine)


def _points(*runs: Run) -> dict[tuple[str, int], tuple[float, ...]]:
    return {(name, step): rest for run in runs for name, step, *rest in run.heard.points}


def test_a_run_that_was_stopped_at_any_step_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole").train()
    for stop_at in (1, 3, 4, 5, 17, 29):
        first = Run(tmp_path / f"first-{stop_at}", stop_at=stop_at).until_stopped()
        assert first.heard.checkpoints[-1][0] == stop_at
        random.seed(99), np.random.seed(99), torch.manual_seed(99)
        second = Run(tmp_path / f"second-{stop_at}", resume=first.heard.checkpoints[-1][1]).train()
        assert second.same_weights(whole)
        assert _points(first, second) == _points(whole)
        assert (second.best.step, second.best.score) == (whole.best.step, whole.best.score)
        assert second.heard.records["resumed_step"] == stop_at


def test_the_same_seed_says_the_same_and_another_seed_does_not(tmp_path: Path) -> None:
    one, two = Run(tmp_path / "one").train(), Run(tmp_path / "two").train()
    other = Run(tmp_path / "other", spec={"seed": 1}).train()
    assert one.heard.points == two.heard.points
    assert one.heard.points != other.heard.points


def test_5_epochs_and_5_more_are_10_epochs(tmp_path: Path) -> None:
    ten = Run(tmp_path / "ten", epochs=10).train()
    five = Run(tmp_path / "five", epochs=5).train()
    more = Run(tmp_path / "more", epochs=10, extend=five.heard.checkpoints[-1][1]).train()
    assert more.same_weights(ten)
    later = {key: value for key, value in _points(ten).items() if key[1] > 25}
    assert _points(more) == later


def test_an_extension_must_be_longer_and_the_same_run(tmp_path: Path) -> None:
    five = Run(tmp_path / "five", epochs=5).train()
    last = five.heard.checkpoints[-1][1]
    with pytest.raises(UserError, match=r"already has 5 epochs\. Ask for more than 5"):
        Run(tmp_path / "same", epochs=5, extend=last).train()
    with pytest.raises(UserError, match=r"learning_rate \(was 0.0003\)"):
        Run(tmp_path / "rate", epochs=9, extend=last, spec={"learning_rate": 0.1}).train()


def test_a_checkpoint_from_before_a_field_existed_is_carried_on(tmp_path: Path) -> None:
    newest = Run(tmp_path / "first", stop_at=3).until_stopped().heard.checkpoints[-1][1]
    whole = torch.load(newest / "state.pt", weights_only=True)
    spec = json.loads(whole["spec"])
    del spec["knn_every"]
    whole["spec"] = json.dumps(spec)
    old = checkpoints.save(tmp_path / "old", step=3, files={"state.pt": lambda file: torch.save(whole, file)})
    assert Run(tmp_path / "second", resume=old).train().heard.records["resumed_step"] == 3


def test_the_number_of_threads_in_the_checkpoint_wins(tmp_path: Path) -> None:
    first = Run(tmp_path / "first", stop_at=3).until_stopped()
    second = Run(tmp_path / "second", resume=first.heard.checkpoints[-1][1], spec={"threads": 2})
    assert torch.get_num_threads() == 2
    second.train()
    assert torch.get_num_threads() == 1
    assert second.heard.records["threads"] == 1


def test_a_damaged_newest_checkpoint_costs_one_interval_only(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole").train()
    first = Run(tmp_path / "first", stop_at=7).until_stopped()
    again = Run(tmp_path / "first", stop_at=11).until_stopped()
    newest = again.heard.checkpoints[-1][1]
    (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:-1])
    second = Run(tmp_path / "second", resume=newest).train()
    assert second.heard.records["resumed_step"] == 7
    assert second.same_weights(whole)
    assert first.heard.checkpoints[-1][0] == 7


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    first = Run(tmp_path / "run", stop_at=8).until_stopped()
    spoilt = Run(tmp_path / "run", spoil_at=12)
    with pytest.raises(UserError, match=r"at step 12\. Halve the learning rate .* The checkpoint of step 8 is kept\."):
        spoilt.train()
    assert checkpoints.newest(tmp_path / "run" / "checkpoints") == first.heard.checkpoints[-1][1]


def test_weights_that_are_no_numbers_never_become_a_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", stop_at=6)
    with torch.no_grad():
        run.network[0].weight[0, 0] = float("nan")
    run.network[0].weight.requires_grad_(False)
    run.network.forward = lambda x: x.sum(1, keepdim=True) * nn.Parameter(torch.ones(1))  # type: ignore[method-assign]
    with pytest.raises(UserError, match="stopped being a finite number at step 6"):
        run.train()
    assert checkpoints.newest(tmp_path / "run" / "checkpoints") is None


def test_a_checkpoint_is_written_when_its_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr("ml_core.runtime.training_loop.time.monotonic", lambda: float(next(clock)))
    run = Run(tmp_path / "run", epochs=2, spec={"checkpoint_seconds": 10}).train()
    steps = [step for step, _ in run.heard.checkpoints]
    assert len(steps) >= 3
    assert steps[-1] == 10, "the last step always has one"


def test_a_batch_follows_from_seed_and_step_alone() -> None:
    sampler = ResumableSampler(10, batch_size=3, seed=5)
    seen = [sampler.batch(step).tolist() for step in range(1, 10)]
    assert sampler.steps_per_epoch == 3
    again = ResumableSampler(10, batch_size=3, seed=5)
    for step in (7, 2, 9, 1, 5):
        assert again.batch(step).tolist() == seen[step - 1]
    epochs = [set().union(*seen[first : first + 3]) for first in (0, 3, 6)]
    assert all(len(epoch) == 9 for epoch in epochs), "no image twice in an epoch"
    assert epochs[0] != epochs[1], "others are left out in the next epoch"
    everyone = ResumableSampler(10, batch_size=3, seed=5, drop_last=False)
    assert sorted(np.concatenate([everyone.batch(step) for step in range(1, 5)]).tolist()) == list(range(10))
    assert len(ResumableSampler(2, batch_size=8, seed=0).batch(1)) == 2


def test_a_run_that_finishes_early_ends_after_that_step_and_says_so(tmp_path: Path) -> None:
    early = Run(tmp_path / "early", finish_at=7).train()
    whole = Run(tmp_path / "whole").train()
    assert early.heard.checkpoints[-1][0] == 7
    assert early.heard.records["total_steps"] == 7
    assert ("info", "Enough.") in early.heard.notes
    curve = early.heard.curve("loss/train")
    assert list(curve) == [4, 7], "the window that the end left open is said"
    assert curve[4] == whole.heard.curve("loss/train")[4]


def test_a_finished_run_that_is_resumed_trains_no_further(tmp_path: Path) -> None:
    early = Run(tmp_path / "early", finish_at=7).train()
    resumed = Run(tmp_path / "resumed", resume=early.heard.checkpoints[-1][1]).train()
    assert resumed.same_weights(early)
    assert resumed.heard.records["total_steps"] == 7
    assert _points(resumed).keys() <= _points(early).keys()
    again = Run(tmp_path / "again", resume=resumed.heard.checkpoints[-1][1]).train()
    assert again.same_weights(early)


def test_a_finished_run_that_is_extended_goes_on(tmp_path: Path) -> None:
    early = Run(tmp_path / "early", finish_at=10).train()
    more = Run(tmp_path / "more", epochs=8, extend=early.heard.checkpoints[-1][1]).train()
    assert more.same_weights(Run(tmp_path / "eight", epochs=8).train())


def test_a_checkpoint_from_before_a_field_was_there_is_of_the_same_run(tmp_path: Path) -> None:
    first = Run(tmp_path / "first", stop_at=7).until_stopped()
    whole = torch.load(first.heard.checkpoints[-1][1] / "state.pt", weights_only=True)
    spec = json.loads(whole["spec"])
    del spec["momentum_schedule"], whole["finished"]
    whole["spec"] = json.dumps(spec)
    old = checkpoints.save(tmp_path / "old", step=7, files={"state.pt": lambda file: torch.save(whole, file)})
    assert Run(tmp_path / "second", resume=old).train().same_weights(Run(tmp_path / "whole").train())
