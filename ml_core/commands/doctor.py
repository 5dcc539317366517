"""`python -m ml_core doctor`: whether this machine can train."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ml_core.job.reporting import DONE

AILING = 1


def add(commands: Any) -> None:
    """Adds the command to a parser's subparsers."""
    doctor = commands.add_parser("doctor", help="say what computes here and whether it computes right")
    doctor.add_argument("--folder", type=Path, default=Path(), help="where runs are to write (this folder)")
    doctor.set_defaults(command=command)


def command(options: argparse.Namespace) -> int:
    """Prints a sentence per finding; 0 where jobs can run, 1 where they cannot."""
    from ml_core.runtime.machine_check import findings

    code = DONE
    for finding in findings(options.folder.resolve()):
        print(f"{finding.level:7}  {finding.sentence}", flush=True)
        if finding.level == "error":
            code = AILING
    return code
