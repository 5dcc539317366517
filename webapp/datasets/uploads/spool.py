"""The file in which an upload gathers, and the right to write to it.

One writer at a time: a lock of the kernel's between processes, and within one process a wish to give way, since the
connection that a client has lost may look alive here for a long time while the client is back already.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import uuid
from pathlib import Path
from types import TracebackType
from uuid import UUID

from django.conf import settings

WAIT_SECONDS = 5.0
"""How long a newcomer waits for the present writer to leave."""


_wishes: dict[UUID, asyncio.Event] = {}


class Locked(Exception):
    """Another connection writes to this upload and does not leave."""


class Spool:
    """`async with Spool(id) as spool`: the only writer of an upload's file. Raises Locked, FileNotFoundError."""

    def __init__(self, upload: UUID) -> None:
        self._upload = upload
        self._descriptor = -1
        self.give_way = asyncio.Event()
        """Set when somebody else wants to write; whoever writes then leaves."""

    async def __aenter__(self) -> Spool:
        self._descriptor = os.open(spool_path(self._upload), os.O_WRONLY | os.O_CLOEXEC)
        try:
            await self._lock()
        except BaseException:
            os.close(self._descriptor)
            raise
        _wishes[self._upload] = self.give_way
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _wishes.get(self._upload) is self.give_way:
            del _wishes[self._upload]
        os.close(self._descriptor)

    async def _lock(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Locked from None
                if (present := _wishes.get(self._upload)) is not None:
                    present.set()
                await asyncio.sleep(0.02)

    async def cut(self, size: int) -> None:
        """Forgets all bytes past `size`: those whose arrival was never committed."""
        await asyncio.to_thread(os.ftruncate, self._descriptor, size)

    async def write(self, data: bytes | bytearray, *, at: int) -> None:
        await asyncio.to_thread(self._write, data, at)

    async def keep(self) -> None:
        """Returns when all that was written is on the disk."""
        await asyncio.to_thread(os.fsync, self._descriptor)

    def _write(self, data: bytes | bytearray, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, at)
            at += written
            view = view[written:]


def spool_path(upload: uuid.UUID) -> Path:
    """Where the bytes of an upload gather."""
    return Path(settings.SPOOL) / str(upload)
