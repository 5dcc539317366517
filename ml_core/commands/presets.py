"""`python -m ml_core presets`: the presets by kind, or one as a specification."""

from __future__ import annotations

import argparse
from typing import Any

from ml_core.job.reporting import DONE
from ml_core.specs import SPECS, from_preset, presets_of


def add(commands: Any) -> None:
    """Adds the command to a parser's subparsers."""
    presets = commands.add_parser("presets", help="list the presets, or print one as a specification to run")
    presets.add_argument("kind", nargs="?", choices=[kind for kind in SPECS if presets_of(kind)])
    presets.add_argument("preset", nargs="?", help="recommended, paper or quick")
    presets.set_defaults(command=command)


def command(options: argparse.Namespace) -> int:
    if options.preset:
        print(from_preset(options.kind, options.preset).model_dump_json(indent=2))
        return DONE
    for kind in [options.kind] if options.kind else SPECS:
        if presets_of(kind):
            print(f"{kind}: {', '.join(presets_of(kind))}")
    return DONE
