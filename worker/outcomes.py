"""Maps the end of a trainer to the state of its job: a pure function, so that one table of its test has every case."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any

from ml_core.job.reporting import ABANDONED, DONE, STOPPED, USER_CAN_MEND
from webapp.jobs.models import State

MOST_FAILURES = 3
"""Attempts in a row that got no further."""


@dataclass(frozen=True)
class Attempt:
    """How an attempt ended. `code` is that of `subprocess.Popen.returncode`."""

    code: int
    wanted: str = ""
    """The requested action for the job: "", "pause" or "cancel"."""
    told_to_leave: bool = False
    """Whether the worker itself asked the trainer to stop, because the worker exits or has lost the database."""
    fault: str = ""
    """The trainer's last note of level error."""
    last_words: str = ""
    """The last line of its log."""
    step: int | None = None
    checkpoints: int = 0
    """How many it wrote in this attempt."""
    checkpoint_step: int | None = None
    """The step from which the next attempt would resume."""
    failures: int = 0
    """Consecutive earlier attempts that counted as failures."""
    crashed_before_at: int | None = None
    """The step at which the previous attempt crashed."""


@dataclass(frozen=True)
class Ending:
    """The job's new state, the sentence shown with it, its new count of failures, facts for the event."""

    to: State
    reason: str = ""
    failures: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def decide(attempt: Attempt) -> Ending:
    """The job's end. A cancel or pause applies however the trainer exited, unless the job was done by then."""
    if attempt.code == DONE:
        return Ending(State.DONE)
    if attempt.wanted == "cancel":
        return Ending(State.CANCELLED, failures=attempt.failures)
    if attempt.code == USER_CAN_MEND:
        return Ending(State.FAILED, attempt.fault or "The job cannot run with these settings. See its log.")
    if attempt.wanted == "pause":
        return Ending(State.PAUSED, _kept(attempt), failures=attempt.failures)
    if attempt.told_to_leave or attempt.code == STOPPED:
        reason = f"The worker was stopped. {_goes_on(attempt)}"
        return Ending(State.QUEUED, reason, failures=attempt.failures)
    if attempt.code == ABANDONED:
        return Ending(State.QUEUED, f"The trainer lost its worker. {_goes_on(attempt)}", failures=attempt.failures)
    return _crashed(attempt)


def _crashed(attempt: Attempt) -> Ending:
    """Counts as a failure only without progress: no new checkpoint, or a crash at the same step again."""
    same_step = attempt.step is not None and attempt.step == attempt.crashed_before_at
    failures = attempt.failures + 1 if same_step or not attempt.checkpoints else 0
    what = _cause(attempt)
    facts = {"exit_code": attempt.code, "crash_step": attempt.step}
    if failures >= MOST_FAILURES:
        reason = f"{what} This happened {failures} times without any progress, so it was not tried again."
        return Ending(State.FAILED, reason, failures, facts)
    counted = f" (failure {failures} of {MOST_FAILURES})" if failures else ""
    return Ending(State.QUEUED, f"{what} {_goes_on(attempt)[:-1]}{counted}.", failures, facts)


def _cause(attempt: Attempt) -> str:
    at = f" after step {attempt.step:,}" if attempt.step else ""
    if attempt.code == -signal.SIGKILL:
        return (
            f"The trainer was killed{at}, as the system does when memory runs out: "
            "a smaller batch or smaller images need less."
        )
    if attempt.code < 0:
        return f"The trainer crashed{at} ({_signal_name(-attempt.code)}, a fault in a program and not in the data)."
    last = f": {attempt.last_words}" if attempt.last_words else "."
    return f"The trainer ended{at} with exit code {attempt.code}{last}".rstrip(".") + "."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _goes_on(attempt: Attempt) -> str:
    if attempt.checkpoint_step is None:
        return "It starts again from the beginning."
    return f"It goes on from step {attempt.checkpoint_step:,}."


def _kept(attempt: Attempt) -> str:
    if attempt.checkpoint_step is None:
        return "There is no checkpoint yet; it will start from the beginning."
    return f"The checkpoint of step {attempt.checkpoint_step:,} is kept."
