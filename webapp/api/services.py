"""Creating, validating and revoking tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.utils import timezone

from webapp.api.models import ApiToken
from webapp.projects.models import User


def _hash(token: str) -> str:
    # The token is 256 random bits: a plain hash is as safe as a slow one, and every request computes it.
    return hashlib.sha256(token.encode()).hexdigest()


def token_create(user: User, *, name: str, may_write: bool, days: int = 365) -> str:
    """Creates a token and returns it; only its hash is stored, so it cannot be read again."""
    token = "cristae_" + secrets.token_urlsafe(32)
    ApiToken.objects.create(
        user=user,
        name=name,
        token_hash=_hash(token),
        may_write=may_write,
        expires_at=timezone.now() + timedelta(days=days),
    )
    return token


def token_find(token: str) -> ApiToken | None:
    """The valid token of an active user, or None; records that it was used."""
    now = timezone.now()
    found = ApiToken.objects.select_related("user").filter(token_hash=_hash(token), expires_at__gt=now).first()
    if found is None or not found.user.is_active:
        return None
    ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
    return found


def token_revoke(token: ApiToken) -> None:
    token.delete()
