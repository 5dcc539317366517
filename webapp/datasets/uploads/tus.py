"""PATCH and HEAD of an upload: tus 1.0.0 core, as an ASGI application that writes bytes to the disk as they come.

The offset in the database is the truth: it is raised after the bytes are on the disk, every COMMIT_BYTES and when the
connection ends however it ends, and the file is cut back to it before anything is added. Who may write is decided as
everywhere else: session, CSRF token and origin, `access.py`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import hashlib
import hmac
import io
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from importlib import import_module
from typing import Any
from uuid import UUID

from asgiref.sync import ThreadSensitiveContext
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils import timezone
from django.utils.http import http_date

from webapp.datasets.models import Upload
from webapp.datasets.uploads import services
from webapp.datasets.uploads.spool import Locked, Spool
from webapp.projects.access import get_editable
from webapp.projects.models import User

VERSION = "1.0.0"
ALGORITHMS = ("sha256", "sha1")
COMMIT_BYTES = 8 * 2**20
WRITE_BYTES = 2**20
SILENCE_SECONDS = 60.0
"""A connection that sends nothing for this long counts as lost."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Answer(Exception):
    """Ends a request: a status, a sentence for a person, headers for the client."""

    def __init__(self, status: int, sentence: str = "", **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Gone(Exception):
    """The connection was cut: there is nobody left to answer."""


def stands_for_patch(scope: Scope) -> bool:
    """Whether a POST is a PATCH of somebody between whom and here methods are not all let through."""
    return scope["method"] == "POST" and _headers(scope).get("x-http-method-override") == "PATCH"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers PATCH and HEAD of /uploads/<uuid>/."""
    async with ThreadSensitiveContext():
        try:
            if _headers(scope).get("tus-resumable") != VERSION:
                raise Answer(412, f"Uploads use tus {VERSION}; the header Tus-Resumable has another version.")
            upload_id = await database_sync_to_async(_entered)(scope)
            if scope["method"] == "HEAD":
                answer = await _head(upload_id)
            else:
                answer = await _patch(upload_id, _headers(scope), receive)
        except Answer as raised:
            answer = raised
        except _Gone:
            return
    await _send(answer, send)


def _entered(scope: Scope) -> UUID:
    """Checks session, CSRF, origin and rights, and returns the upload's id. Raises Answer."""
    try:
        request = ASGIRequest(scope, io.BytesIO())
        store = import_module(settings.SESSION_ENGINE).SessionStore
        request.session = store(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        user = get_user(request)
        if not isinstance(user, User) or not user.is_active:
            raise Answer(401, "You are signed out. Sign in again; what has arrived is kept.")
        request.user = user
        if request.method != "HEAD":
            middleware = CsrfViewMiddleware(lambda _: HttpResponse())
            middleware.process_request(request)
            if middleware.process_view(request, lambda _: HttpResponse(), (), {}) is not None:
                raise Answer(403, "The request did not come from a page of this server. Reload the page and go on.")
        request.get_host()
        upload_id = UUID(scope["path"].strip("/").rpartition("/")[2])
        get_editable(Upload.objects.select_related("dataset__project"), user, project="dataset__project", pk=upload_id)
    except (Http404, ValueError):
        raise Answer(404, "There is no such upload.") from None
    except PermissionDenied as denied:
        raise Answer(403, str(denied)) from None
    except SuspiciousOperation:
        raise Answer(400, "The request names a host that is not this server.") from None
    return upload_id


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def _head(upload_id: UUID) -> Answer:
    """Where to go on. Waits for a writer whose connection was cut, so that the offset counts all that came."""
    try:
        async with Spool(upload_id):
            pass
    except (Locked, FileNotFoundError):
        pass  # Still writing, or read already: the offset in the database is right in both cases.
    upload = await _row(upload_id)
    if _given_up(upload):
        raise Answer(410, "This upload was discarded. Send the file again.")
    if upload.offset == upload.length:
        await database_sync_to_async(services.upload_finished)(upload_id)  # The answer to the last piece was lost.
    name = base64.b64encode(upload.filename.encode()).decode()
    return Answer(
        200,
        Upload_Offset=str(upload.offset),
        Upload_Length=str(upload.length),
        Upload_Metadata=f"filename {name}",
        **_expires(upload),
    )


async def _patch(upload_id: UUID, headers: dict[str, str], receive: Receive) -> Answer:
    """Adds a piece to the file."""
    if headers.get("content-type") != "application/offset+octet-stream":
        raise Answer(415, "A piece has the type application/offset+octet-stream.")
    offset = _whole_number(headers, "upload-offset")
    if offset is None:
        raise Answer(400, "The header Upload-Offset must hold the byte at which the piece begins.")
    checksum = _checksum(headers.get("upload-checksum"))
    try:
        async with Spool(upload_id) as spool:
            upload = await _row(upload_id)
            if _given_up(upload):
                raise Answer(410, "This upload was discarded. Send the file again.")
            if offset != upload.offset:
                raise Answer(
                    409,
                    f"The piece begins at byte {offset:,}, and {upload.offset:,} bytes are here.",
                    Upload_Offset=str(upload.offset),
                )
            if offset + (_whole_number(headers, "content-length") or 0) > upload.length:
                raise Answer(413, f"The piece reaches past the end of {upload.filename} ({upload.length:,} bytes).")
            piece = _Piece(upload, spool, receive, checksum=checksum)
            await piece.take()
    except Locked:
        raise Answer(423, "Another connection is sending this upload.") from None
    except FileNotFoundError:
        upload = await _row(upload_id)
        if upload.offset == offset == upload.length:  # Read already: a client that asks again has lost the answer.
            return Answer(204, Upload_Offset=str(offset))
        if _given_up(upload):
            raise Answer(410, "This upload was discarded. Send the file again.") from None
        raise Answer(410, "The bytes of this upload are gone. Send the file again.") from None
    if piece.offset == upload.length:
        await database_sync_to_async(services.upload_finished)(upload_id)
    return Answer(204, Upload_Offset=str(piece.offset), **_expires(upload))


class _Piece:
    """The body of one PATCH on its way to the disk."""

    def __init__(self, upload: Upload, spool: Spool, receive: Receive, *, checksum: tuple[str, bytes] | None) -> None:
        self._upload = upload
        self._spool = spool
        self._receive = receive
        self._wanted = checksum[1] if checksum else None
        self._hash = hashlib.new(checksum[0]) if checksum else None
        self._committed = upload.offset
        self._buffer = bytearray()
        self.offset = upload.offset

    async def take(self) -> None:
        """Takes the body to its end. However it ends, what has come is kept, unless a checksum is still to be met."""
        await self._spool.cut(self._committed)
        try:
            while await self._more():
                if len(self._buffer) >= WRITE_BYTES:
                    await self._flush()
                if self._hash is None and self.offset - self._committed >= COMMIT_BYTES:
                    await self._commit()
            await self._flush()
            self._check()
            await self._commit()
        except Answer:
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise Answer(
                507, "The server's disk is full. What has arrived is kept; free some space and continue."
            ) from error
        except (_Gone, asyncio.CancelledError, TimeoutError):
            # Shielded: a server that cancels what belongs to a lost connection must not cost the bytes that are here.
            await asyncio.shield(self._keep_what_came())
            raise

    async def _keep_what_came(self) -> None:
        if self._hash is None:
            await self._flush()
            await self._commit()

    async def _more(self) -> bool:
        """Takes the next bytes; False after the last. Raises _Gone, Answer."""
        message = await self._next_message()
        if message["type"] == "http.disconnect":
            raise _Gone
        body = message.get("body", b"")
        if self.offset + len(self._buffer) + len(body) > self._upload.length:
            await self._keep_what_came()
            raise Answer(413, f"The piece reaches past the end of {self._upload.filename}.")
        self._buffer += body
        if self._hash is not None:
            self._hash.update(body)
        return bool(message.get("more_body"))

    async def _next_message(self) -> MutableMapping[str, Any]:
        message = asyncio.ensure_future(self._receive())
        wish = asyncio.ensure_future(self._spool.give_way.wait())
        try:
            await asyncio.wait({message, wish}, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                return message.result()
            await self._keep_what_came()
            if wish.done():
                raise Answer(423, "Another connection has taken over this upload.")
            raise Answer(408, "No data arrived for a minute. What has arrived is kept.")
        finally:
            message.cancel()
            wish.cancel()

    async def _flush(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        if data:
            await self._spool.write(data, at=self.offset)
            self.offset += len(data)

    def _check(self) -> None:
        if self._hash is not None and not hmac.compare_digest(self._hash.digest(), self._wanted or b""):
            raise Answer(460, "The piece was damaged in transfer: its checksum differs.")

    async def _commit(self) -> None:
        if self.offset == self._committed:
            return
        await self._spool.keep()
        expires_at = timezone.now() + services.UPLOAD_LIFE
        if not await database_sync_to_async(_raise_offset)(
            self._upload.pk, self._committed, self.offset, expires_at=expires_at
        ):
            raise Answer(410, "This upload was discarded. Send the file again.")
        self._committed, self._upload.expires_at = self.offset, expires_at


def _raise_offset(upload_id: UUID, known: int, now: int, *, expires_at: datetime) -> bool:
    rows = Upload.objects.filter(pk=upload_id, state=Upload.State.RECEIVING, offset=known)
    return bool(rows.update(offset=now, expires_at=expires_at))


def _given_up(upload: Upload) -> bool:
    """Also where it has stood still for too long and nobody has swept it yet."""
    late = upload.state == Upload.State.RECEIVING and upload.expires_at < timezone.now()
    return late or upload.state in (Upload.State.ABANDONED, Upload.State.FAILED)


async def _row(upload_id: UUID) -> Upload:
    try:
        return await database_sync_to_async(Upload.objects.get)(pk=upload_id)
    except Upload.DoesNotExist:
        raise Answer(404, "There is no such upload.") from None


def _expires(upload: Upload) -> dict[str, str]:
    return {"Upload_Expires": http_date(upload.expires_at.timestamp())}


def _whole_number(headers: dict[str, str], name: str) -> int | None:
    value = headers.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None


def _checksum(header: str | None) -> tuple[str, bytes] | None:
    """`sha256 <base64>` as name and digest."""
    if header is None:
        return None
    name, _, value = header.partition(" ")
    try:
        digest = base64.b64decode(value, validate=True)
    except binascii.Error:
        raise Answer(400, "The header Upload-Checksum cannot be read.") from None
    if name not in ALGORITHMS:
        raise Answer(400, f"Checksums are made with {' or '.join(ALGORITHMS)}.")
    return name, digest


async def _send(answer: Answer, send: Send) -> None:
    body = answer.sentence.encode()
    headers = {
        "Tus-Resumable": VERSION,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **({"Tus-Version": VERSION} if answer.status == 412 else {}),
        **({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))} if body else {}),
        **answer.headers,
    }
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
