"""What each way for a trainer to end means for its job."""

from __future__ import annotations

import pytest

from worker.outcomes import Attempt, decide


@pytest.mark.parametrize(
    ("attempt", "state", "failures", "words"),
    [
        (Attempt(code=0), "done", 0, ""),
        (Attempt(code=0, wanted="cancel"), "done", 0, ""),
        (Attempt(code=70, fault="Halve the rate."), "failed", 0, "Halve the rate."),
        (Attempt(code=70), "failed", 0, "See its log"),
        (Attempt(code=70, wanted="pause", fault="Halve the rate."), "failed", 0, "Halve"),
        (Attempt(code=70, wanted="cancel"), "cancelled", 0, ""),
        (Attempt(code=75, wanted="pause", checkpoint_step=8000), "paused", 0, "step 8,000 is kept"),
        (Attempt(code=-9, wanted="pause"), "paused", 0, "no checkpoint yet"),
        (Attempt(code=75, wanted="cancel"), "cancelled", 0, ""),
        (Attempt(code=-9, wanted="cancel"), "cancelled", 0, ""),
        (Attempt(code=75, failures=2), "queued", 2, "worker was stopped"),
        (Attempt(code=-9, told_to_leave=True, failures=2, checkpoint_step=5), "queued", 2, "from step 5"),
        (Attempt(code=76, failures=1), "queued", 1, "lost its worker"),
        (Attempt(code=-11), "queued", 1, "SIGSEGV"),
        (Attempt(code=-11, failures=2), "failed", 3, "3 times"),
        (Attempt(code=-11, failures=2, checkpoints=1, step=30), "queued", 0, "after step 30"),
        (Attempt(code=-11, failures=2, checkpoints=1, step=30, crashed_before_at=30), "failed", 3, "SIGSEGV"),
        (Attempt(code=-9, failures=2), "failed", 3, "memory runs out"),
        (Attempt(code=1, last_words="KeyError: 'x'"), "queued", 1, "exit code 1: KeyError: 'x'."),
    ],
)
def test_the_end_of_a_trainer_decides_its_jobs_state(attempt: Attempt, state: str, failures: int, words: str) -> None:
    ending = decide(attempt)
    assert (ending.to, ending.failures) == (state, failures)
    assert words in ending.reason
    assert ".." not in ending.reason
