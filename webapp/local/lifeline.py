"""Runs a command that must not outlive its parent: `lifeline.py [--signal NAME] [--grace SECONDS] -- COMMAND ...`.

The parent holds the write end of this process's standard input and never writes. When the parent exits, even if killed,
the kernel closes that end; the command then gets the signal, and KILL after the grace time. TERM and INT to this
process do the same; a second one kills at once. Uses the standard library alone, so that it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

GRACE_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def guarded(command: Sequence[str], *, stop_signal: str = "TERM", grace: float = GRACE_SECONDS) -> list[str]:
    """`command`, wrapped in a lifeline; start it with `stdin=subprocess.PIPE` and keep the pipe open."""
    options = ["--signal", stop_signal, "--grace", str(grace)]
    return [sys.executable, "-S", "-E", os.path.abspath(__file__), *options, "--", *command]


def _option(arguments: Sequence[str], name: str, default: str) -> str:
    return arguments[arguments.index(name) + 1] if name in arguments else default


class Lifeline:
    """Runs the command, and ends it on a signal or when its parent process has died."""

    def __init__(self, command: Sequence[str], *, stop_signal: signal.Signals, grace: float) -> None:
        self.command = command
        self.stop_signal = stop_signal
        self.grace = grace
        self.stops = 0
        self.child: subprocess.Popen[bytes] | None = None

    def stop(self, *_: object) -> None:
        """Sends the command its stop signal on the first call; kills it on the second."""
        self.stops += 1
        if self.child is None or self.child.poll() is not None:
            return
        if self.stops == 1:
            self.child.send_signal(self.stop_signal)
            timer = threading.Timer(self.grace, self.child.kill)
            timer.daemon = True
            timer.start()
        else:
            self.child.kill()

    def run(self) -> int:
        """Runs the command to its end and returns its exit code, 128 + n for signal n."""
        # Before the command starts: a signal that arrives in between must find its handler installed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, preexec_fn=self._follow_parent)
        if self.stops:
            self.child.send_signal(self.stop_signal)
        threading.Thread(target=self._watch, daemon=True).start()
        code = self.child.wait()
        return code if code >= 0 else 128 - code

    def _follow_parent(self) -> None:
        """In the child: if this process itself is killed, the kernel sends the command its stop signal (Linux only)."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(self.stop_signal))

    def _watch(self) -> None:
        while os.read(0, 1024):
            pass
        self.stop()


def main(arguments: list[str]) -> int:
    divide = arguments.index("--")
    options, command = arguments[:divide], arguments[divide + 1 :]
    stop_signal = signal.Signals[f"SIG{_option(options, '--signal', 'TERM')}"]
    grace = float(_option(options, "--grace", str(GRACE_SECONDS)))
    code = Lifeline(command, stop_signal=stop_signal, grace=grace).run()
    os._exit(code)  # the watching thread still blocks on its read; there is nothing to clean up


if __name__ == "__main__":
    main(sys.argv[1:])
