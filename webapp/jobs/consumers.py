"""The WebSocket of a job's page (docs/contracts.md).

The socket keeps no events: the page sends the id of the last event that it has, and later events are read from the
database on every hint and every three seconds. A lost hint, a full channel or an absent broker delays events by
seconds and loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from channels.db import DatabaseSyncToAsync
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from django.contrib.sessions.backends.base import SessionBase
from django.db import Error
from django.http import Http404

from webapp.jobs.lifecycle.events import AT_ONCE, events_after
from webapp.jobs.lifecycle.page_hints import group_of
from webapp.jobs.lifecycle.snapshot import snapshot
from webapp.jobs.models import Job
from webapp.projects.access import get_visible
from webapp.projects.models import User

log = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
CHECK_SECONDS = 60.0
"""How long a removed member may go on receiving events."""
SEND_SECONDS = 30.0
"""A client that reads nothing for so long is disconnected; it reconnects with its cursor."""
LONGEST_MESSAGE = 4096
LEAVE_SECONDS = 2 * LOOK_SECONDS
NOT_YOURS = 4404
TOO_LONG = 1009

# A thread pool of its own: Channels would run the queries of every socket on Django's one shared thread.
_threads = ThreadPoolExecutor(8, thread_name_prefix="followers")

R = TypeVar("R")


async def _ask(question: Callable[..., R], *given: Any) -> R:
    return await DatabaseSyncToAsync(question, thread_sensitive=False, executor=_threads)(*given)


class JobConsumer(AsyncWebsocketConsumer):
    """One page that follows one job. One task receives hints, one queries and sends: queries never overlap."""

    # The base class would close the socket when the broker fails; `_listen` reconnects instead.
    channel_layer_alias = "none of the base class's"

    async def connect(self) -> None:
        self.job_id: int = self.scope["url_route"]["kwargs"]["job_id"]
        self.user: User = self.scope["user"]
        self._cursor = 0
        self._news = asyncio.Event()
        self._joined = asyncio.Event()
        self._gone = False
        self._tasks: list[asyncio.Task[None]] = []
        await self.accept()
        self._welcome = await self._allowed()
        if not self._welcome:
            # Closed after the handshake: a browser receives a close code only then.
            await self.close(NOT_YOURS)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """`{"after": <id of the last event that the page has>}` starts sending, or resets the cursor."""
        if not self._welcome:
            return
        if text_data is None or len(text_data) > LONGEST_MESSAGE:
            await self.close(TOO_LONG)
            return
        try:
            self._cursor = max(0, min(int(json.loads(text_data)["after"]), 2**63 - 1))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            await self.close(1003)
            return
        self._news.set()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._follow())]

    async def disconnect(self, code: int) -> None:
        self._gone = True
        left = set(self._tasks)
        while left:
            for task in left:
                task.cancel()
            # Cancelled again, as a library underneath may swallow a cancellation that coincides with a message.
            _, left = await asyncio.wait(left, timeout=LEAVE_SECONDS)
        raise StopConsumer

    async def _allowed(self) -> bool:
        try:
            return self.user.is_authenticated and await _ask(
                _may_view, self.user.pk, self.job_id, self.scope.get("session")
            )
        except Error:
            log.warning("The database did not answer which user may follow job %d.", self.job_id)
            raise

    async def _listen(self) -> None:
        """Sets `_news` on each hint; rejoins the group when the broker comes back."""
        group = group_of(self.job_id)
        while not self._gone:  # a cancellation may come out of the layer as another error
            layer = get_channel_layer()
            try:
                channel = await layer.new_channel()
                joining = asyncio.ensure_future(layer.group_add(group, channel))
                try:
                    await asyncio.shield(joining)
                    self._joined.set()
                    self._news.set()
                    while True:
                        await layer.receive(channel)
                        self._news.set()
                finally:
                    with contextlib.suppress(Exception):
                        # A page may disconnect while it is still joining: leaving must not overtake that.
                        await asyncio.wait_for(joining, LOOK_SECONDS)
                        await asyncio.wait_for(layer.group_discard(group, channel), LOOK_SECONDS)
            except Exception as error:  # noqa: BLE001  any failure of the broker: events are sent without hints
                if self._gone:
                    return
                log.info("No live updates for a follower of job %d: %r", self.job_id, error)
                self._joined.set()
                await asyncio.sleep(LOOK_SECONDS)

    async def _follow(self) -> None:
        """Queries and sends until the page disconnects. The group is joined first, so no event is missed in between."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._joined.wait(), LOOK_SECONDS)
        checked = time.monotonic()
        shown: dict[str, Any] | None = None
        while True:
            self._news.clear()
            if time.monotonic() - checked > CHECK_SECONDS:
                if not await self._still_allowed():
                    return
                checked = time.monotonic()
            asked_after = self._cursor
            try:
                state, events = await _ask(_look, self.job_id, asked_after)
            except Job.DoesNotExist:
                await self.close(NOT_YOURS)
                return
            except Error as error:
                log.warning("The database does not answer a follower of job %d: %s", self.job_id, error)
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if events or state != shown:
                cursor = events[-1]["id"] if events else asked_after
                more = len(events) == AT_ONCE
                if not await self._deliver({"job": state, "events": events, "cursor": cursor, "more": more}):
                    return
                shown = state
                if self._cursor == asked_after:  # else the page has reset it meanwhile
                    self._cursor = cursor
                if more:
                    continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)

    async def _still_allowed(self) -> bool:
        try:
            allowed = await self._allowed()
        except Error:
            return True  # Checked again in a minute; while the database is away no event can be sent either.
        if not allowed:
            await self.close(NOT_YOURS)
        return allowed

    async def _deliver(self, message: dict[str, Any]) -> bool:
        """Sends, and waits until the network has accepted the message; False if the page no longer reads."""
        text = json.dumps(message, separators=(",", ":"), allow_nan=False)
        try:
            await asyncio.wait_for(self.send(text), SEND_SECONDS)
        except TimeoutError:
            await self.close()
            return False
        return True


def _may_view(user_id: int, job_id: int, session: SessionBase | None) -> bool:
    """Whether the user still has access, and is still signed in where the socket came with a session."""
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None or (session is not None and not session.exists(session.session_key or "")):
        return False
    try:
        get_visible(Job.objects.only("pk"), user, pk=job_id)
    except Http404:
        return False
    return True


def _look(job_id: int, cursor: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Reads the state before the events: a page that gets a final state and no more events has every event."""
    state = snapshot(Job.objects.get(pk=job_id))
    return state, events_after(Job(pk=job_id), cursor)
