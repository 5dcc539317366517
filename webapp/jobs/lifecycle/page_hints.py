"""Hints that a job has new events, for the sockets that follow it. They carry no data and may be lost.

One thread with its own event loop sends them, so that a slow or absent broker never blocks the caller, and a hundred
hints for one job between two sends become one.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from channels.layers import get_channel_layer

log = logging.getLogger(__name__)

_SEND_SECONDS = 3.0


def group_of(job_id: int) -> str:
    """The channel layer's group of all sockets that follow the job."""
    return f"job-{job_id}"


class _Announcer:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[int, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None

    def announce(self, job_id: int) -> None:
        with self._lock:
            self._due[job_id] = None
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._wake = asyncio.Event()
                threading.Thread(target=self._loop.run_until_complete, args=[self._send()], daemon=True).start()
            assert self._wake is not None
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _send(self) -> None:
        assert self._wake is not None
        while True:
            await self._wake.wait()
            self._wake.clear()
            with self._lock:
                due, self._due = list(self._due), {}
            for job_id in due:
                try:
                    layer = get_channel_layer()
                    if layer is not None:
                        message = {"type": "job.news"}
                        await asyncio.wait_for(layer.group_send(group_of(job_id), message), _SEND_SECONDS)
                except Exception as error:  # noqa: BLE001  any failure of the broker: the sockets also query unasked
                    log.info("Could not announce an update of job %d: %s", job_id, error)


_announcer = _Announcer()


def hint_pages(job_id: int) -> None:
    """Makes every socket that follows the job query for new events; returns at once and never raises."""
    _announcer.announce(job_id)
