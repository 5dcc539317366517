"""The command line: `python -m ml_core run spec.json --workdir out --dataset images/`.

The supervisor starts the same command with `--supervised`, and the fork server calls `main` in a forked process.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ml_core.commands import convert, describe, doctor, export, presets, run
from ml_core.errors import UserError
from ml_core.job.reporting import USER_CAN_MEND
from ml_core.specs import SpecError

_HELP = """
  .venv/bin/python -m ml_core presets segment recommended > spec.json
  .venv/bin/python -m ml_core run spec.json --workdir out --dataset FOLDER --input encoder=encoder.safetensors

A run writes events.jsonl, checkpoints/ and artifacts/ to its folder. Ctrl-C stops it with a checkpoint; the same
command goes on from there. Exit codes: 0 done, 70 something to mend (the last line says what), 75 stopped.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (`ml_core.job.reporting`)."""
    options = _parser().parse_args(argv)
    try:
        return int(options.command(options))
    except (UserError, SpecError) as error:
        print(error, file=sys.stderr)
        return USER_CAN_MEND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ml_core",
        description="Self-supervised learning on micrographs, without the server.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (run, presets, describe, doctor, convert, export):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
