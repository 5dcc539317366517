"""Whether the web server responds: `python -m webapp.local.health [--host] [--port]`, for containers; `up` uses it too.

Uses the standard library alone: run every few seconds, it must cost nothing.
"""

from __future__ import annotations

import argparse
import http.client
import os
from urllib.parse import urlsplit

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - connected to, not bound to


def answers(host: str, port: int, *, timeout: float = 2.0) -> bool:
    """True if the web server at `host`:`port` could serve a page now."""
    connection = http.client.HTTPConnection(_LOOPBACK.get(host, host), port, timeout=timeout)
    # The server accepts only its own host name.
    name = urlsplit(os.environ.get("CRISTAE_URL", "http://127.0.0.1:8000")).netloc
    try:
        connection.request("GET", "/healthz", headers={"Host": name})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m webapp.local.health", description="Asks the web server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    return 0 if answers(options.host, options.port) else 1


if __name__ == "__main__":
    raise SystemExit(main())
