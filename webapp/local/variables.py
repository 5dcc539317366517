"""Environment variables of the settings on one machine: `manage.py up` sets those that are missing and publishes them
for other commands.

Nothing here imports Django, since all of it comes before the settings are read.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path

from webapp.local.servers import private_folder, secret

ROOT = Path(__file__).resolve().parents[2]
WILDCARDS = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound to


def data_folder() -> Path:
    """The folder of all persistent data; the settings read the same variable."""
    return Path(os.environ.get("CRISTAE_DATA", ROOT / "var")).expanduser().resolve()


def _file(data: Path) -> Path:
    return data / "run" / "environment.json"


def address(host: str, port: int) -> str:
    """The URL for browsers of a web server that listens at `host`."""
    name = socket.gethostname() if host in WILDCARDS else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def set_defaults(*, data: Path, host: str, port: int) -> None:
    """Sets the missing variables that need no engine: folders, the secret key, the server's address."""
    os.environ["CRISTAE_DATA"] = str(data)
    if not {"CRISTAE_SECRET_KEY", "CRISTAE_SECRET_KEY_FILE"} & os.environ.keys():
        os.environ["CRISTAE_SECRET_KEY"] = secret(data / "secret-key")
    if "CRISTAE_URL" not in os.environ:
        os.environ["CRISTAE_URL"] = address(host, port)
        # Other names by which the server is reached: from this machine itself, and through a tunnel.
        os.environ.setdefault("CRISTAE_EXTRA_HOSTS", "127.0.0.1,localhost")


class Claim:
    """An exclusive lock on a data folder, held by one `up` at a time and released by the kernel when it ends."""

    def __init__(self, data: Path) -> None:
        self.path = private_folder(data / "run") / "up.lock"
        self._file = open(self.path, "a+")  # noqa: SIM115 - kept open for as long as the process lives

    def take(self) -> int | None:
        """Takes the lock: None if it is ours now, else the id of the process that holds it (0 if unknown)."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            said = self._file.read().strip()
            return int(said) if said.isdigit() else 0
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        return None

    def release(self) -> None:
        self._file.close()


def publish(data: Path, names: list[str]) -> None:
    """Writes the variables `names` to a file, readable by the owner only, for other commands of the same user."""
    path = _file(data)
    half = path.with_suffix(".half")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump({name: os.environ[name] for name in names}, out)
    half.replace(path)


def withdraw(data: Path) -> None:
    _file(data).unlink(missing_ok=True)


def left_behind(data: Path) -> bool:
    """Whether the last start ended without cleaning up: its processes may still be exiting."""
    return _file(data).exists()


def adopt() -> None:
    """Sets the variables published by the `up` that runs on this data folder, if there is one."""
    data = data_folder()
    if "DATABASE_URL" in os.environ or not _file(data).exists():
        return
    claim = Claim(data)
    try:
        if claim.take() is None:
            return  # no `up` runs: the file is out of date
    finally:
        claim.release()
    for name, value in json.loads(_file(data).read_text()).items():
        os.environ.setdefault(name, value)
