"""How a job ends early: what the user can mend, and a stop that was asked for. Imports nothing."""

from __future__ import annotations


class UserError(Exception):
    """A fault that the user can mend; its text is one or two sentences that say how."""


class Stopped(Exception):
    """Raised by a recipe after it has written a checkpoint because `should_stop()` was true."""
