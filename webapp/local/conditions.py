"""Preconditions of `manage.py up`. Each check raises with one sentence that states the remedy."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import time
from pathlib import Path

LEAST_FREE = 10**9
"""Bytes. With less, the database stops at its first larger write."""


class CannotStart(RuntimeError):
    """`up` cannot start; the text gives the reason and the remedy."""


def folder_usable(data: Path) -> None:
    """Checks that the data folder exists or can be created, for its owner alone; an existing folder is not changed."""
    try:
        if not data.is_dir():
            data.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise CannotStart(
            f"The data folder {data} cannot be made: {error.strerror}. "
            "Choose another: manage.py up --data FOLDER (or CRISTAE_DATA)."
        ) from None
    if not os.access(data, os.W_OK | os.X_OK):
        raise CannotStart(
            f"The data folder {data} is not yours to write to. Choose another: manage.py up --data FOLDER."
        )


def disk_has_room(data: Path) -> None:
    free = shutil.disk_usage(data).free
    if free < LEAST_FREE:
        raise CannotStart(
            f"The disk is full: {free / 10**6:.0f} MB are free at {data}, and Cristae needs at least 1 GB. "
            "Free some, or choose a folder on another disk: manage.py up --data FOLDER."
        )


def port_free(host: str, port: int, *, patience: float = 0.0) -> None:
    """Checks that nothing listens at `host`:`port`. `patience`: seconds to wait for processes that are exiting."""
    deadline = time.monotonic() + patience
    while (error := _bind(host, port)) is not None:
        if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
            time.sleep(0.2)
            continue
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"Port {port} is taken by another program. Choose another: manage.py up --port {port + 1} "
                f"(make demo PORT={port + 1})."
            )
        if error.errno == errno.EACCES:
            raise CannotStart(f"Port {port} is for the administrator only. Choose one above 1023: --port 8000.")
        raise CannotStart(f"{host} is not an address of this machine ({error.strerror or error}): leave out --host.")


def _bind(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        return error
    return None


def front_end_built(root: Path) -> None:
    if not (root / "webapp" / "static" / "built" / "manifest.json").exists():
        raise CannotStart("The pages' scripts and styles are not built. Run `make setup` (or bin/setup) once.")
