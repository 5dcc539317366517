"""A real uvicorn in a thread of the test process, and a client that speaks to it byte by byte."""

from __future__ import annotations

import base64
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvicorn
from channels.layers import channel_layers
from django.conf import settings
from django.db import connection
from django.test import Client

from webapp.datasets.models import Dataset, Upload
from webapp.projects.models import User

TOKEN = "t" * 32


@contextmanager
def serving() -> Iterator[int]:
    """Yields the port of a server on loopback."""
    from webapp.asgi import application

    channel_layers.backends.clear()  # a layer belongs to the event loop that first asked it
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "uvicorn did not start"
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        connection.close_pool()  # Its threads' connections would outlive them and hold the test database.


@dataclass
class Browser:
    """A signed-in person's headers, and requests with them."""

    port: int
    user: User | None
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cookies = [f"csrftoken={TOKEN}"]
        if self.user is not None:
            client = Client()
            client.force_login(self.user)
            cookies.append(f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}")
        self.headers = {"Cookie": "; ".join(cookies), "X-CSRFToken": TOKEN, "Tus-Resumable": "1.0.0"}

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            given = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=given)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def patch(self, path: str, body: bytes, *, offset: int, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.request(
            "PATCH",
            path,
            body,
            Content_Type="application/offset+octet-stream",
            Upload_Offset=str(offset),
            **headers,
        )

    def open_patch(self, path: str, *, offset: int, length: int) -> socket.socket:
        """A PATCH whose head is sent and whose `length` bytes are up to the test."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        lines = [f"PATCH {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Content-Length: {length}"]
        lines += ["Content-Type: application/offset+octet-stream", f"Upload-Offset: {offset}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        raw.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        return raw


def begin(browser: Browser, dataset: Dataset, *, length: int, name: str = "slice.png") -> str:
    """Makes an upload; returns the path that its pieces go to."""
    status, headers, body = browser.request(
        "POST",
        f"/datasets/{dataset.pk}/uploads/",
        Upload_Length=str(length),
        Upload_Metadata=f"filename {base64.b64encode(name.encode()).decode()}",
    )
    assert status == 201, body
    return urlsplit(headers["location"]).path


def row(path: str) -> Upload:
    return Upload.objects.select_related("job").get(pk=path.strip("/").rpartition("/")[2])


def offset_of(browser: Browser, path: str) -> int:
    status, headers, body = browser.request("HEAD", path)
    assert status == 200, body
    return int(headers["upload-offset"])
