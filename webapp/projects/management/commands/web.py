"""The web server: pages, sockets, uploads. A single process, started by `manage.py up` and compose."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.core.management.base import BaseCommand

GRACE_SECONDS = 5
"""How long open responses have to finish. A WebSocket never ends by itself; its page reconnects."""
LARGEST_MESSAGE = 16 * 1024
"""Bytes. A page sends only its cursor over its WebSocket."""


class Command(BaseCommand):
    help = "Runs the web server."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, host: str, port: int, **_: Any) -> None:
        # Only a container collects the static files; elsewhere WhiteNoise serves them from where they were built.
        warnings.filterwarnings("ignore", message="No directory at")
        # WhiteNoise's small files are buffered. Cristae's own streaming responses are not: see webapp/streaming.py.
        warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
        uvicorn.run(
            "webapp.asgi:application",
            host=host,
            port=port,
            log_config=None,  # the settings' LOGGING applies
            access_log=False,
            server_header=False,
            ws_max_size=LARGEST_MESSAGE,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
