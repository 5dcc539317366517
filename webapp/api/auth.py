"""Authentication of API requests: a script by its token, or a page by its session (with CSRF)."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest
from ninja.errors import HttpError
from ninja.security import HttpBearer, SessionAuth

from webapp.api.services import token_find
from webapp.projects.models import User

READING = {"GET", "HEAD", "OPTIONS"}


class Token(HttpBearer):
    """`Authorization: Bearer cristae_...`"""

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        found = token_find(token)
        if found is None:
            return None
        if request.method not in READING and not found.may_write:
            raise HttpError(403, "This token may only read. Make one that may write.")
        return found.user


AUTH = [Token(), SessionAuth()]


def asker(request: HttpRequest) -> User:
    """The user of a request that has passed AUTH."""
    return cast(User, request.auth)  # type: ignore[attr-defined]
