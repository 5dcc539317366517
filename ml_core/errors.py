"""Exceptions that end a job early: an error that the user can fix, and a requested stop. Imports nothing."""

from __future__ import annotations


class UserError(Exception):
    """An error that the user can fix; its message is one or two sentences that explain how."""


class Stopped(Exception):
    """Raised by a recipe after it has written a checkpoint because `should_stop()` was true."""
