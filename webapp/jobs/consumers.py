"""The live socket of a job (docs/contracts.md).

It sends nothing of its own: the page names the last event that it has, and gets what came after from the database,
on every hint and every three seconds. So a lost hint, a full channel or an absent broker costs seconds, never an event.
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
"""How long a removed member may go on watching."""
SEND_SECONDS = 30.0
"""A reader that takes nothing for so long is let go; it comes back with its cursor."""
LONGEST_MESSAGE = 4096
LEAVE_SECONDS = 2 * LOOK_SECONDS
NOT_YOURS = 4404
TOO_LONG = 1009

# Threads of their own: Channels would run every socket's queries on the one thread that all of Django's shares.
_threads = ThreadPoolExecutor(8, thread_name_prefix="followers")

R = TypeVar("R")


async def _ask(question: Callable[..., R], *given: Any) -> R:
    return await DatabaseSyncToAsync(question, thread_sensitive=False, executor=_threads)(*given)


class JobConsumer(AsyncWebsocketConsumer):
    """One page that follows one job. One task listens for hints, one asks the database and sends: never two at once."""

    # The base class would end the socket whenever the broker does; `_listen` outlives it.
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
            # Closed after the handshake: a browser learns the code of no other refusal.
            await self.close(NOT_YOURS)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """`{"after": <id of the last event that the page has>}` starts the flow, or sets it back."""
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
            # Asked again, as a library underneath may swallow a cancellation that meets a message.
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
        """Turns hints into `_news`; joins again when the broker comes back."""
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
                        # A page may go while it is still joining: leaving must not overtake that.
                        await asyncio.wait_for(joining, LOOK_SECONDS)
                        await asyncio.wait_for(layer.group_discard(group, channel), LOOK_SECONDS)
            except Exception as error:  # noqa: BLE001  whatever ails the broker: the flow goes on without hints
                if self._gone:
                    return
                log.info("No live updates for a follower of job %d: %r", self.job_id, error)
                self._joined.set()
                await asyncio.sleep(LOOK_SECONDS)

    async def _follow(self) -> None:
        """Asks and sends until the page goes. The group is joined first, so nothing falls between the two."""
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
                if self._cursor == asked_after:  # else the page has set it back meanwhile
                    self._cursor = cursor
                if more:
                    continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)

    async def _still_allowed(self) -> bool:
        try:
            allowed = await self._allowed()
        except Error:
            return True  # It is asked again in a minute; until then the database tells nothing to anybody.
        if not allowed:
            await self.close(NOT_YOURS)
        return allowed

    async def _deliver(self, message: dict[str, Any]) -> bool:
        """Sends and waits until the network has taken it; False where the page reads nothing any more."""
        text = json.dumps(message, separators=(",", ":"), allow_nan=False)
        try:
            await asyncio.wait_for(self.send(text), SEND_SECONDS)
        except TimeoutError:
            await self.close()
            return False
        return True


def _may_view(user_id: int, job_id: int, session: SessionBase | None) -> bool:
    """Whether the person still may, and is still signed in where the socket came with a session."""
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None or (session is not None and not session.exists(session.session_key or "")):
        return False
    try:
        get_visible(Job.objects.only("pk"), user, pk=job_id)
    except Http404:
        return False
    return True


def _look(job_id: int, cursor: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The state first, so that a page which reads of an end, and of no more to come, has every event up to it."""
    state = snapshot(Job.objects.get(pk=job_id))
    return state, events_after(Job(pk=job_id), cursor)
