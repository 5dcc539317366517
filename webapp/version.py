"""Which code this is: for the run record."""

from __future__ import annotations

import subprocess
from functools import cache

from django.conf import settings

VERSION = "0.1.0"


@cache
def code_version() -> str:
    """The release, and the commit where there is one: CRISTAE_COMMIT, which an image is built with, or git's word.

    A checkout with changes that are in no commit says so: its runs cannot be repeated from the commit alone.
    """
    commit = settings.COMMIT or _git()
    return f"{VERSION} ({commit})" if commit else VERSION


def _git() -> str:
    if not (settings.ROOT / ".git").exists():
        return ""
    command = [
        "git",
        "-C",
        str(settings.ROOT),
        "describe",
        "--always",
        "--dirty=, changed",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
