"""Long answers, sent as they are made: a file of any size leaves without being held in memory."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import IO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header

PART = 2**20
"""About how many bytes leave at a time: each time is a change of threads."""


def streamed(
    request: HttpRequest, parts: Iterator[bytes], *, filename: str, media_type: str, in_place: bool = False
) -> StreamingHttpResponse:
    """Sends `parts` one by one as a file to keep, or with `in_place` to be shown.

    Under ASGI, Django would first gather all parts of a plain iterator; one that is asked in turn it sends as it goes.
    """
    content = _in_turn(parts) if isinstance(request, ASGIRequest) else parts
    response = StreamingHttpResponse(content, content_type=media_type)
    response["Content-Disposition"] = content_disposition_header(not in_place, filename) or "attachment"
    response["X-Accel-Buffering"] = "no"
    return response


async def _in_turn(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(parts, None))  # In the request's own thread, with its database connection.
    while (part := await following()) is not None:
        yield part


def file_parts(file: IO[bytes]) -> Iterator[bytes]:
    """The parts of an open file, which is closed after the last."""
    with file:
        while part := file.read(PART):
            yield part


def csv_parts(rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """The rows as CSV in UTF-8, many lines to a part. What cannot be written in UTF-8 becomes a question mark."""
    written = io.StringIO()
    writer = csv.writer(written)
    for row in rows:
        writer.writerow(row)
        if written.tell() >= PART:
            yield _taken(written)
    yield _taken(written)


def _taken(written: io.StringIO) -> bytes:
    part = written.getvalue().encode("utf-8", "replace")
    written.seek(0)
    written.truncate()
    return part
