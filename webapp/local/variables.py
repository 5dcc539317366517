"""The settings' variables on one machine: what nobody has set, `manage.py up` makes and other commands find.

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
    """Where everything lies that must survive; the settings read the same variable."""
    return Path(os.environ.get("CRISTAE_DATA", ROOT / "var")).expanduser().resolve()


def _file(data: Path) -> Path:
    return data / "run" / "environment.json"


def address(host: str, port: int) -> str:
    """What a browser is to be given for a web server that listens at `host`."""
    name = socket.gethostname() if host in WILDCARDS else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def set_defaults(*, data: Path, host: str, port: int) -> None:
    """Sets the variables that need no engine, where nobody has: folders, the key, the server's address."""
    os.environ["CRISTAE_DATA"] = str(data)
    if not {"CRISTAE_SECRET_KEY", "CRISTAE_SECRET_KEY_FILE"} & os.environ.keys():
        os.environ["CRISTAE_SECRET_KEY"] = secret(data / "secret-key")
    if "CRISTAE_URL" not in os.environ:
        os.environ["CRISTAE_URL"] = address(host, port)
        # Reached under another name as well: from this machine itself, and through a tunnel.
        os.environ.setdefault("CRISTAE_EXTRA_HOSTS", "127.0.0.1,localhost")


class Claim:
    """The right to run on a data folder, held by one `up` at a time and given back by the kernel when it ends."""

    def __init__(self, data: Path) -> None:
        self.path = private_folder(data / "run") / "up.lock"
        self._file = open(self.path, "a+")  # noqa: SIM115 - held for as long as the process lives

    def take(self) -> int | None:
        """None when the claim is ours now, else the number of the process that has it (0 if it does not say)."""
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
    """Writes down the variables `names`, readable by the owner only, for commands of the same person."""
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
    """Did the last start end without tidying up? Its processes may still be on their way out."""
    return _file(data).exists()


def adopt() -> None:
    """Takes over the variables of the `up` that runs on this data folder, where there is one."""
    data = data_folder()
    if "DATABASE_URL" in os.environ or not _file(data).exists():
        return
    claim = Claim(data)
    try:
        if claim.take() is None:
            return  # nobody runs: what the file says is no longer true
    finally:
        claim.release()
    for name, value in json.loads(_file(data).read_text()).items():
        os.environ.setdefault(name, value)
