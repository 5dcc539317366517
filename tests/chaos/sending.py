"""A client that is cut off, the files that it sends, and what became of them: for the tests of uploads."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
from pathlib import Path

import numpy as np
import psutil
import tifffile

from tests.counting import wait_until
from tests.webapp.datasets.server import Browser, offset_of
from webapp.datasets.models import Upload
from webapp.jobs.models import Job, State

CUTS = 20


def cut(raw: socket.socket, *, rudely: bool) -> None:
    """Half of the cuts that happen are rude: a reset instead of an end, and what is on its way is lost."""
    if rudely:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


def send_part(browser: Browser, path: str, source: Path, *, start: int, stop: int, promised: int) -> socket.socket:
    """Sends the bytes from `start` to `stop` of a piece that was to go on to `promised`; the line stays open."""
    raw = browser.open_patch(path, offset=start, length=promised - start)
    with open(source, "rb") as file:
        file.seek(start)
        while start < stop:
            chunk = file.read(min(2**20, stop - start))
            raw.sendall(chunk)
            start += len(chunk)
    return raw


def send_cut(browser: Browser, path: str, source: Path, chance: random.Random) -> list[int]:
    """The whole file over a line that is cut at `CUTS` random places; returns where each new line began."""
    length = source.stat().st_size
    begun = []
    for stop in sorted(chance.sample(range(1, length), CUTS)):
        at = offset_of(browser, path)
        assert not begun or at >= begun[-1], "what was committed is never taken back"
        begun.append(at)
        if at < stop:
            cut(
                send_part(browser, path, source, start=at, stop=stop, promised=length),
                rudely=chance.random() < 0.5,
            )
            assert at <= offset_of(browser, path) <= stop
    at = offset_of(browser, path)
    with send_part(browser, path, source, start=at, stop=length, promised=length) as raw:
        assert b" 204 " in raw.recv(4096).split(b"\r\n")[0]
    return begun


def stack(path: Path, *, slices: int, size: int, seed: int = 1) -> Path:
    """A TIFF stack that no compression and no hole in a file makes smaller."""
    rng = np.random.default_rng(seed)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for _ in range(slices):
            file.write(rng.integers(0, 255, (size, size), dtype=np.uint8), contiguous=True)
    return path


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(upload: Upload, *, seconds: float = 60) -> Upload:
    """The upload once its job has ended."""
    wait_until(
        lambda: Job.objects.filter(upload=upload.pk, state__in=[State.DONE, State.FAILED]).exists(),
        what=f"{upload.filename} to be read",
        seconds=seconds,
    )
    return Upload.objects.select_related("job").get(pk=upload.pk)


class Memory:
    """The most that a process has had, looked at all the time in a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self.before = self.most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._process.memory_info().rss)

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self.most - self.before
