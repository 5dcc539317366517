"""Files written whole or not at all, and their hashes. Imports no torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Any) -> str:
    """Writes a file so that it is there whole or not at all, and returns its SHA-256.

    `write` gets a binary file opened under a temporary name beside `path`; then fsync and rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
