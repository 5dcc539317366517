"""Runs all checks in parallel, each with a time limit: a part that hangs blocks neither the page nor other checks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.db import connection

LIMIT_SECONDS = 4.0
"""A little more than the broker's own timeout, whose message describes the fault better."""
_ORDER = {"failed": 0, "warning": 1, "done": 2}


@dataclass(frozen=True)
class Finding:
    """`state` is done, warning or failed, as the status chips name them."""

    name: str
    state: str
    sentence: str
    remedy: str = ""


Check = Callable[[], Finding]


def examine(checks: Mapping[str, Check], *, limit: float = LIMIT_SECONDS) -> list[Finding]:
    """The findings of all checks within `limit` seconds, those with problems first."""
    found: dict[str, Finding] = {}

    def run(name: str, check: Check) -> None:
        try:
            found[name] = check()
        except Exception as error:  # noqa: BLE001 - an exception is the finding of its check
            said = str(error).strip().splitlines()
            found[name] = _could_not_run(name, said[0] if said else type(error).__name__)
        finally:
            connection.close()  # of this thread

    # A daemon thread: a check that hangs does not prevent the server's exit.
    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in checks.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {limit:.0f} s"
    return sorted((found.get(name) or _could_not_run(name, late) for name in checks), key=lambda f: _ORDER[f.state])


def _could_not_run(name: str, why: str) -> Finding:
    return Finding(name, "failed", f"The check could not run: {why}", "See the server's log, then check again.")


def report(findings: list[Finding], *, version: str, now: str) -> str:
    """The findings as plain text, for an issue."""
    lines = [f"Cristae {version}, checked {now}"]
    for finding in findings:
        word = {"done": "OK", "warning": "check", "failed": "failed"}[finding.state]
        lines.append(f"[{word}] {finding.name}: {finding.sentence} {finding.remedy}".rstrip())
    return "\n".join(lines)
