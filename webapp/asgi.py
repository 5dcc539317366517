"""What uvicorn serves: pages, the pieces of uploads, sockets."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
pages = get_asgi_application()

# After the line above, which loads the models that these need.
from webapp.datasets.uploads import tus  # noqa: E402
from webapp.jobs.routing import websocket_urlpatterns  # noqa: E402

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PIECE = re.compile(r"/uploads/[0-9a-f-]{36}/?\Z")


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    """Django reads a request's body to its end before a view runs; a piece of an upload is written as it arrives."""
    if _PIECE.match(scope["path"]) and (scope["method"] in {"PATCH", "HEAD"} or tus.stands_for_patch(scope)):
        await tus.application(scope, receive, send)
    else:
        await pages(dict(scope), receive, send)  # type: ignore[arg-type]  # the same three, in narrower types


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        "lifespan": lifespan,
    }
)
