"""The web server: pages, sockets, uploads. One process; `manage.py up` and compose start it."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.core.management.base import BaseCommand

GRACE_SECONDS = 5
"""What open answers have to end. A live socket never ends by itself; its page connects again."""
LARGEST_MESSAGE = 16 * 1024
"""Bytes. What a page says over its socket is a cursor."""


class Command(BaseCommand):
    help = "Runs the web server."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, host: str, port: int, **_: Any) -> None:
        # Only a container collects the static files; elsewhere WhiteNoise finds them where they were built.
        warnings.filterwarnings("ignore", message="No directory at")
        # Its small files are gathered before they leave. Answers of our own are not: see webapp/streaming.py.
        warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
        uvicorn.run(
            "webapp.asgi:application",
            host=host,
            port=port,
            log_config=None,  # the settings' LOGGING holds
            access_log=False,
            server_header=False,
            ws_max_size=LARGEST_MESSAGE,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
