"""Runs a command that must not outlive its parent: `lifeline.py [--signal NAME] -- COMMAND ...`.

The parent holds the other end of this process's standard input and never writes. When the parent goes, however it
goes, the kernel closes that end; the command then gets the signal, and KILL after a grace time. TERM and INT to this
process do the same. Uses the standard library alone, so that it starts in milliseconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

GRACE_SECONDS = 30.0


def guarded(command: Sequence[str], *, stop_signal: str = "TERM") -> list[str]:
    """`command` behind a lifeline; start it with `stdin=subprocess.PIPE` and keep the pipe open."""
    return [sys.executable, "-S", "-E", os.path.abspath(__file__), "--signal", stop_signal, "--", *command]


def main(arguments: list[str]) -> int:
    divide = arguments.index("--")
    name = arguments[arguments.index("--signal") + 1] if "--signal" in arguments[:divide] else "TERM"
    stop_signal = signal.Signals[f"SIG{name}"]
    child = subprocess.Popen(arguments[divide + 1 :], stdin=subprocess.DEVNULL)

    def stop(*_: object) -> None:
        if child.poll() is None:
            child.send_signal(stop_signal)
            threading.Timer(GRACE_SECONDS, child.kill).start()

    def watch() -> None:
        while os.read(0, 1024):
            pass
        stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
