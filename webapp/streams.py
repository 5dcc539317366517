"""Long answers, sent as they are made: a file of any size leaves without being held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header


def streamed(request: HttpRequest, parts: Iterator[bytes], *, filename: str, media_type: str) -> StreamingHttpResponse:
    """Sends `parts` one by one as a file to keep.

    Under ASGI, Django would first gather all parts of a plain iterator; one that is asked in turn it sends as it goes.
    """
    content = _in_turn(parts) if isinstance(request, ASGIRequest) else parts
    response = StreamingHttpResponse(content, content_type=media_type)
    response["Content-Disposition"] = content_disposition_header(True, filename) or "attachment"
    response["X-Accel-Buffering"] = "no"
    return response


async def _in_turn(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(parts, None))  # In the request's own thread, with its database connection.
    while (part := await following()) is not None:
        yield part
