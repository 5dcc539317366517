"""What a person reads while a job runs: one line at a terminal, few in a pipe, the results at the end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ml_core.job.reporting import EventFile
from ml_core.job.terminal import Terminal
from ml_core.job.time_text import duration


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _train(terminal: Terminal, *, steps: int, clock: _Clock, seconds: float = 1.0) -> None:
    """`steps` steps of 1,200, of which 40 are an epoch, `seconds` each."""
    terminal.record({"steps_per_epoch": 40, "total_steps": 1200})
    for step in range(steps + 1):
        terminal.point("loss/train", 1 / (step + 1))
        terminal.progress(step, 1200, "steps", stage="", rate=1 / seconds, left=(1200 - step) * seconds)
        clock.now += seconds


def test_a_terminal_shows_one_line_that_is_rewritten() -> None:
    stream, clock = _Tty(), _Clock()
    terminal = Terminal(stream, clock=clock)
    _train(terminal, steps=100, clock=clock)
    assert "\n" not in stream.getvalue()
    line = stream.getvalue().split("\r\x1b[K")[-1]
    assert line == "epoch 3/30 · step 100/1,200 · 1.00/s · 18 min 20 s left · loss 0.00990"


def test_the_line_leaves_out_what_would_make_it_two() -> None:
    stream, clock = _Tty(), _Clock()
    terminal = Terminal(stream, clock=clock)
    terminal.point("foreground_iou/validation", 0.5)
    _train(terminal, steps=100, clock=clock)
    line = stream.getvalue().split("\r\x1b[K")[-1]
    assert line.endswith("left · loss 0.00990")
    assert len(line) < 80


def test_a_note_does_not_run_into_the_line_that_stands() -> None:
    stream, clock = _Tty(), _Clock()
    terminal = Terminal(stream, clock=clock)
    _train(terminal, steps=1, clock=clock)
    terminal.note("The loss does not fall.", level="warning")
    assert stream.getvalue().endswith("\r\x1b[Kwarning: The loss does not fall.\n")
    terminal.close()
    assert stream.getvalue().endswith("fall.\n")


def test_a_pipe_gets_a_line_seldom_and_at_the_end() -> None:
    stream, clock = io.StringIO(), _Clock()
    terminal = Terminal(stream, clock=clock)
    _train(terminal, steps=1200, clock=clock, seconds=0.1)
    lines = stream.getvalue().splitlines()
    assert 4 <= len(lines) <= 6  # 120 seconds, one line in 30
    assert lines[0].startswith("epoch 1/30 · step 0/1,200")
    assert lines[-1].startswith("epoch 30/30 · step 1,200/1,200 · 10.0/s · loss")
    assert "left" not in lines[-1]
    assert "\r" not in stream.getvalue()


def test_a_short_stage_is_one_line_in_a_pipe() -> None:
    stream, clock = io.StringIO(), _Clock()
    terminal = Terminal(stream, clock=clock)
    for done in range(1, 17):
        terminal.progress(done, 16, "images", stage="Preparing images", rate=None, left=None)
    assert stream.getvalue() == "Preparing images: 16 of 16 images\n"


def test_the_best_is_the_least_of_a_loss_and_the_greatest_of_a_score() -> None:
    stream, clock = io.StringIO(), _Clock()
    terminal = Terminal(stream, clock=clock)
    for loss, score in ((0.5, 0.61), (0.25, 0.75), (0.375, 0.7)):
        terminal.point("loss/validation", loss)
        terminal.point("foreground_iou/validation", score)
    terminal.point("foreground_iou/validation", float("nan"))
    terminal.progress(5, 10, "steps", stage="", rate=None, left=None)
    line = "5 of 10 steps · foreground iou 0.700 (best 0.750) · loss 0.375 (best 0.250)\n"
    assert stream.getvalue() == line


def test_the_results_come_last_and_can_be_read() -> None:
    stream = io.StringIO()
    Terminal(stream).results(
        {
            "foreground_iou": 0.84217,
            "interval": [0.81, 0.87],
            "images": 1234,
            "per_image": [0.5] * 83,
            "split": "by stack",
        }
    )
    assert stream.getvalue().splitlines() == [
        "Results",
        "  foreground iou  0.8422",
        "  interval        0.8100 to 0.8700",
        "  images          1,234",
        "  per image       83 values, in events.jsonl",
        "  split           by stack",
    ]


def test_a_reader_who_has_gone_does_not_end_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    terminal = Terminal(Gone())
    terminal.note("Still at work.", level="info")
    terminal.results({"loss": 0.5})


def test_a_run_at_a_terminal_says_what_it_writes(tmp_path: Path) -> None:
    stream = io.StringIO()
    events = EventFile(tmp_path, echo=Terminal(stream))
    events.record(steps_per_epoch=2, total_steps=4)
    events.point("loss/train", 4, 0.5)
    events.progress(4, 4, "steps")
    (tmp_path / "encoder.safetensors").write_bytes(b"weights")
    (tmp_path / "pairs.png").write_bytes(b"picture")
    events.artifact("encoder", tmp_path / "encoder.safetensors")
    events.artifact("pairs", tmp_path / "pairs.png")
    events.results(loss=0.5)
    events.close()
    assert stream.getvalue().splitlines() == [
        "epoch 2/2 · step 4/4 · loss 0.500",
        f"encoder: {tmp_path / 'encoder.safetensors'}",
        "Results",
        "  loss  0.5000",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(8.4, "8 s"), (88, "1 min 28 s"), (7500, "2 h 5 min"), (3600, "1 h"), (100_800, "1 d 4 h")]
)
def test_a_duration_is_said_as_a_person_says_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said
