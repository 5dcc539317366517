"""Imports torch once and forks a trainer per job: `python -m ml_core.forkserver SOCKET`.

Importing torch and the other libraries takes seconds; forking a process that has done so takes milliseconds. For the
fork to be safe this process runs no tensor operation, never uses CUDA, and has one thread.

It listens on a Unix socket in a folder that only its owner can enter. A request is one packet: JSON with `argv`, `env`
and `cwd`, and the three standard streams as file descriptors. The reply is `{"pid": ...}`, and `{"status": ...}` once
the trainer has ended, with the value of `subprocess.Popen.returncode`. Where the client closes the connection before
that, the trainer's process group is killed. The server exits when its standard input ends; so does its trainers' input.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_core.job.reporting import ABANDONED
from ml_core.specs import SPECS

PRELOADED = (
    "torch",
    "torchvision",
    "segmentation_models_pytorch",
    "pytorch_grad_cam",
    "ml_core.__main__",
    "ml_core.runtime.training_loop",
    *(f"ml_core.recipes.{kind}" for kind, spec in SPECS.items() if spec.needs_torch),
)
_LARGEST_REQUEST = 128 * 1024
_STREAMS = 3
PATIENCE = 60.0
"""Seconds that a request waits: as long as loading all libraries may take."""
UNFIT = 3
"""Exit code of a server that cannot serve on this machine and need not be started again."""


class ForkServer:
    """The listening side. One loop, no threads: `fork` copies the calling thread only, and no lock may be held."""

    def __init__(self, path: Path) -> None:
        """Listens at once, so that a client that connects while the libraries are loading waits for them instead of
        loading them a second time."""
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Bound under another name, and renamed once it listens: who sees the path is never refused.
        unready = path.with_suffix(".new")
        unready.unlink(missing_ok=True)
        before = os.umask(0o177)
        self._listener.bind(str(unready))
        os.umask(before)
        self._listener.listen(64)
        unready.replace(path)
        self._asked: dict[int, socket.socket | None] = {}
        """Process id -> the connection of the client that requested it, None once that is closed."""

    def run(self) -> None:
        """Serves until standard input ends."""
        wakened, waker = socket.socketpair()
        for end in (wakened, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)  # its only work is the byte on `waker`
        for thing, role in ((sys.stdin.fileno(), "lifeline"), (self._listener, "listener"), (wakened, "child")):
            self._selector.register(thing, selectors.EVENT_READ, role)
        self._own = [self._listener, wakened, waker]
        while self._serve_once(wakened):
            pass

    def close(self) -> None:
        """Closes the listener, which disconnects the clients that still wait."""
        self._path.unlink(missing_ok=True)
        self._listener.close()

    def _serve_once(self, wakened: socket.socket) -> bool:
        for key, _ in self._selector.select():
            if key.data == "lifeline":
                if not os.read(sys.stdin.fileno(), 1024):
                    return False
            elif key.data == "child":
                with contextlib.suppress(BlockingIOError):
                    while wakened.recv(1024):
                        pass
                self._reap()
            elif key.data == "listener":
                connection, _ = self._listener.accept()
                self._selector.register(connection, selectors.EVENT_READ, "client")
            elif isinstance(key.fileobj, socket.socket):
                self._read_requests(key.fileobj)
        return True

    def _read_requests(self, connection: socket.socket) -> None:
        descriptors: list[int] = []
        try:
            packet, descriptors, _, _ = socket.recv_fds(connection, _LARGEST_REQUEST, _STREAMS)
            if not packet:
                self._drop(connection)
                return
            request = json.loads(packet)
            if len(descriptors) != _STREAMS:
                raise ValueError("a request carries three streams")
            pid = self._fork(request, descriptors)
            self._asked[pid] = connection
            _send(connection, {"pid": pid})
        except (OSError, ValueError, KeyError, TypeError) as error:
            _send(connection, {"error": str(error)})
            self._drop(connection)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork(self, request: Mapping[str, Any], streams: Sequence[int]) -> int:
        argv, env, cwd = list(request["argv"]), dict(request["env"]), str(request["cwd"])
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            self._become(streams, env=env, cwd=cwd)
            code = _train(argv)
        except BaseException:  # noqa: BLE001  no code of the server may run in the child
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 0xFF)

    def _become(self, streams: Sequence[int], *, env: Mapping[str, str], cwd: str) -> None:
        """In the child: resets signals, closes the server's sockets, and sets the requested streams, env and folder."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        for end in self._own:
            end.close()
        self._selector.close()
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        for stream in streams:
            os.close(stream)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)

    def _reap(self) -> None:
        for pid in list(self._asked):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                connection = self._asked.pop(pid)
                if connection is not None:
                    _send(connection, {"status": os.waitstatus_to_exitcode(status)})
                    self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        """Forgets a client that has disconnected or has its status, and kills what is left of its trainer."""
        for pid, asker in self._asked.items():
            if asker is connection:
                self._asked[pid] = None
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        self._selector.unregister(connection)
        connection.close()


def _train(argv: Sequence[str]) -> int:
    sys.argv = ["ml_core", *argv]
    main = importlib.import_module("ml_core.__main__").main
    try:
        return int(main(argv) or 0)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def _send(connection: socket.socket, answer: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        connection.send(json.dumps(answer).encode())


class ForkedProcess:
    """A trainer that the server has forked, as `subprocess.Popen` would show it. Its process group has its own id."""

    def __init__(self, connection: socket.socket, *, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection

    def poll(self) -> int | None:
        """The exit code, minus the signal's number for a killed one; None while it runs.

        Where the server has died the trainer's exit code cannot be known: it is killed, and ABANDONED returned.
        """
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            try:
                answer = self._connection.recv(1024)
            except OSError:
                answer = b""
            if answer:
                self.returncode = int(json.loads(answer)["status"])
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self.returncode = ABANDONED
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float) -> int | None:
        """Waits at most `timeout` seconds; returns what `poll` does."""
        if self.returncode is None:
            select.select([self._connection], [], [], timeout)
        return self.poll()


def fork(
    path: Path,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    streams: Sequence[int],
    patience: float = PATIENCE,
) -> ForkedProcess:
    """Requests a trainer with `argv` (without the program) of the server at `path`. Raises OSError where none runs."""
    request = json.dumps({"argv": list(argv), "env": dict(env), "cwd": str(cwd)}).encode()
    if len(request) > _LARGEST_REQUEST:
        raise OSError(errno.EMSGSIZE, "the environment is too large for the fork server")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(patience)
        connection.connect(str(path))
        socket.send_fds(connection, [request], list(streams))
        answer = json.loads(connection.recv(1024) or b"{}")
        if "pid" not in answer:
            raise OSError(errno.ECONNABORTED, answer.get("error", "the fork server left"))
    except BaseException:
        connection.close()
        raise
    return ForkedProcess(connection, pid=int(answer["pid"]))


def _preload() -> None:
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            # The trainer that needs it will report it to the job's owner.
            _report(f"{name} cannot be imported: {error}")


def _report(text: str) -> None:
    sys.stderr.write(f"fork server: {text}\n")
    sys.stderr.flush()


def _threads() -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 1


def main(argv: Sequence[str]) -> int:
    began = time.monotonic()
    server = ForkServer(Path(argv[0]))
    # OpenBLAS starts its threads when NumPy is imported; PyTorch brings its own kernels.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Threads of a trainer that wait for each other sleep rather than spin: beside other programs on few cores that is
    # two to four times faster, and alone no slower. Read when torch is loaded, so it is set here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _preload()
    if (threads := _threads()) != 1:
        _report(f"{threads} threads after loading; trainers start by themselves instead.")
        server.close()
        return UNFIT
    gc.collect()
    gc.freeze()  # so that counting references does not copy every page
    _report(f"ready after {time.monotonic() - began:.1f} s")
    server.run()
    server.close()
    os._exit(0)  # the libraries' own exit messages are long and of no use


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
