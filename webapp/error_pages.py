"""Pages for what went wrong, with the frame around them.

Under ASGI Django makes them in a thread of the common executor, for which no end of a request gives the database
connection back: without this each such thread would keep one of the pool's for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import connections
from django.http import HttpResponse
from django.views import defaults


def _letting_go(page: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(page)
    def handler(*args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return page(*args, **kwargs)
        finally:
            for connection in connections.all(initialized_only=True):
                # Within a transaction the page was made in its request's own thread, which gives it back itself.
                if not connection.in_atomic_block:
                    connection.close_if_unusable_or_obsolete()

    return handler


bad_request = _letting_go(defaults.bad_request)
permission_denied = _letting_go(defaults.permission_denied)
page_not_found = _letting_go(defaults.page_not_found)
server_error = _letting_go(defaults.server_error)
