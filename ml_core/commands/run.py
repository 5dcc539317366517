"""`python -m ml_core run`: one job, from its specification to an exit code.

The supervisor starts it with `--supervised`, and the fork server in a forked process. A recipe is imported only
after the specification is read, so a kind of job that needs no torch never loads it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import importlib
import json
import os
import platform
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ml_core.errors import Stopped, UserError
from ml_core.job import inputs as job_inputs
from ml_core.job.context import PlainContext
from ml_core.job.inputs import Inputs
from ml_core.job.reporting import DONE, STOPPED, USER_CAN_MEND, Control, EventFile, StopFlag
from ml_core.job.terminal import Terminal
from ml_core.specs import Spec, SpecError, load_spec

CRASHED = 1


def add(commands: Any) -> None:
    """Adds the command to a parser's subparsers."""
    run = commands.add_parser("run", help="run one job; run it again in the same folder to go on where it stopped")
    run.add_argument("spec", type=Path, help="the specification, as JSON; `presets` prints some")
    run.add_argument("--workdir", type=Path, required=True, help="where events, checkpoints and artifacts go")
    run.add_argument("--inputs", type=Path, help="inputs.json, as a server writes it")
    run.add_argument("--dataset", type=Path, help="a folder of images (and masks), or a manifest")
    run.add_argument("--input", action="append", default=[], metavar="NAME=FILE", help="a file for an input slot")
    run.add_argument("--extend", type=Path, metavar="WORKDIR", help="carry on the finished run in this folder")
    run.add_argument("--supervised", type=float, metavar="SECONDS", help="obey lease and stop on standard input")
    run.set_defaults(command=command)


def command(options: argparse.Namespace) -> int:
    """Runs one job and returns its exit code (`ml_core.job.reporting`)."""
    folder: Path = options.workdir
    folder.mkdir(parents=True, exist_ok=True)
    supervised = options.supervised is not None
    with contextlib.ExitStack() as stack:
        stop = (
            Control(open(0, "rb", closefd=False), lease_seconds=options.supervised)  # noqa: SIM115  read to its end
            if supervised
            else StopFlag()
        )
        stack.enter_context(_lock(folder / "lock"))
        events = stack.enter_context(
            contextlib.closing(EventFile(folder, control=stop, echo=None if supervised else Terminal(sys.stdout)))
        )
        stack.enter_context(_signals(stop, to_person=None if supervised else events))
        return _attempt(options, folder=folder, events=events)


def _attempt(options: argparse.Namespace, *, folder: Path, events: EventFile) -> int:
    """Runs the recipe; returns the exit code, and writes an error note where the user can fix the cause."""
    spec: Spec | None = None
    try:
        spec = read_spec(options.spec)
        inputs = _read_inputs(options, folder=folder)
        with _device_lock(events):
            _recipe(spec, inputs=inputs, folder=folder, events=events)
        return DONE
    except Stopped as stopped:
        events.note(str(stopped))
        return STOPPED
    except (UserError, SpecError) as error:
        return _mend(events, str(error))
    except Exception as error:  # noqa: BLE001  every error ends here, with a note or as a crash
        if _is_out_of_memory(error):
            return _mend(events, _out_of_memory(spec))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _mend(events, f"The disk of {folder} is full. Free some space, then start again.")
        traceback.print_exc()
        return CRASHED


def _recipe(spec: Spec, *, inputs: Inputs, folder: Path, events: EventFile) -> None:
    # As in the fork server, and before torch is loaded: threads that wait for each other sleep rather than spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    recipe = importlib.import_module(f"ml_core.recipes.{spec.kind}")
    context: PlainContext[Any]
    if spec.needs_torch:
        from ml_core.runtime.training_loop import open_context

        context = open_context(spec, inputs=inputs, folder=folder, reporter=events)
    else:
        events.record(host=socket.gethostname(), python=platform.python_version())
        context = PlainContext(spec=spec, inputs=inputs, folder=folder, reporter=events)
    recipe.run(context)


def read_spec(path: Path) -> Spec:
    """The specification in the file `path`. Raises UserError or SpecError."""
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"The specification cannot be read from {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path} is not a specification: that is one JSON object of fields and their values.")
    return load_spec(raw)


def _read_inputs(options: argparse.Namespace, *, folder: Path) -> Inputs:
    if options.inputs is not None:
        return job_inputs.read(options.inputs, folder=folder)
    files: dict[str, Path] = {}
    for given in options.input:
        name, equals, path = given.partition("=")
        if not equals or not name or not path:
            raise UserError(f"--input takes NAME=FILE, such as encoder=encoder.safetensors, and not {given!r}.")
        files[name] = Path(path)
    extend = None
    if options.extend is not None:
        from ml_core.job.checkpoints import newest

        extend = newest(options.extend / "checkpoints")
        if extend is None:
            raise UserError(f"There is no whole checkpoint in {options.extend / 'checkpoints'} to carry on from.")
    return job_inputs.from_terminal(folder, dataset=options.dataset, files=files, extend=extend)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds a folder's lock; the kernel releases it however this process ends."""
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another run is at work in {path.parent}. Wait for it, or choose another folder."
            ) from error
        yield


@contextlib.contextmanager
def _device_lock(events: EventFile) -> Iterator[None]:
    """Holds the lock that `CRISTAE_DEVICE_LOCK` names, so that one trainer at a time is on the device.

    The process that holds it is ending or has lost its lease, so the wait is short. Raises Stopped where a stop is
    requested meanwhile.
    """
    path = os.environ.get("CRISTAE_DEVICE_LOCK")
    if not path:
        yield
        return
    with open(path, "ab") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if events.should_stop():
                    raise Stopped("Stopped before the device was free.") from None
                if not told:
                    events.note("Waiting for the device: an earlier job is leaving it.")
                    told = True
                time.sleep(0.05)
        yield


@contextlib.contextmanager
def _signals(stop: StopFlag, *, to_person: EventFile | None) -> Iterator[None]:
    """SIGTERM, and Ctrl-C at a terminal, request a checkpoint and a stop; a second Ctrl-C ends at once."""

    def wanted(number: int, _frame: FrameType | None) -> None:
        stop.stop_wanted = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if to_person is not None:
            os.write(2, b"\nStopping after this step, with a checkpoint. Once more to leave at once.\n")

    before = {number: signal.signal(number, wanted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mend(events: EventFile, sentence: str) -> int:
    """Writes `sentence` as an error note, or to standard error where the events cannot be written."""
    try:
        events.note(sentence, level="error")
    except OSError:
        print(sentence, file=sys.stderr)
    return USER_CAN_MEND


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _out_of_memory(spec: Spec | None) -> str:
    batch, size = getattr(spec, "batch_size", None), getattr(spec, "image_size", None)
    if batch and batch > 2:
        at = f" at {size} px" if size else ""
        return (
            f"The device ran out of memory with a batch of {batch:,}{at}. Take a batch of {batch // 2:,}, or smaller "
            "images."
        )
    if size:
        return f"The device ran out of memory at {size:,} px. Take smaller images, or a device with more memory."
    return "The memory ran out. Close other programs, or use a machine with more memory."
