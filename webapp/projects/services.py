"""Changes to projects and users, for pages and commands."""

from __future__ import annotations

import datetime
import hashlib
import secrets

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from webapp.projects.models import Membership, Project, Role, SignInLink, User

LINK_LIFE = datetime.timedelta(hours=24)


@transaction.atomic
def project_create(*, user: User, name: str) -> Project:
    """Creates a project that `user` owns."""
    project = Project.objects.create(name=name)
    Membership.objects.create(project=project, user=user, role=Role.OWNER)
    return project


@transaction.atomic
def user_invite(email: str, *, admin: bool = False) -> User:
    """The user with this e-mail address, created if there is none. They sign in with a link of `signin_link_create`.

    `admin` makes the user an administrator; without it, an administrator stays one.
    """
    user = User.objects.filter(email__iexact=email).first()
    if user is None:
        user = User.objects.create_user(username=email.lower(), email=email)
    if admin and not user.is_superuser:
        user.is_staff = user.is_superuser = True
        user.save(update_fields=["is_staff", "is_superuser"])
    return user


def signin_link_create(user: User) -> str:
    """The full URL of a page that signs `user` in once, within 24 hours. The server stores only its hash."""
    token = secrets.token_urlsafe(32)
    SignInLink.objects.create(user=user, token_hash=_hash(token), expires_at=timezone.now() + LINK_LIFE)
    return settings.URL + reverse("sign-in-link", args=[token])


def signin_link_user(token: str) -> User | None:
    """The user that the link would sign in; None if it was used, has expired, or never existed."""
    link = _good_links(token).select_related("user").first()
    return link.user if link and link.user.is_active else None


def signin_link_spend(token: str) -> User | None:
    """Uses up the link: of any number of concurrent requests, one gets the user and the others None."""
    # One row and no join: a second UPDATE waits for the first and then reads its `used_at`.
    if not _good_links(token).update(used_at=timezone.now()):
        return None
    user = SignInLink.objects.select_related("user").get(token_hash=_hash(token)).user
    return user if user.is_active else None


def _good_links(token: str) -> QuerySet[SignInLink]:
    return SignInLink.objects.filter(token_hash=_hash(token), used_at=None, expires_at__gt=timezone.now())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
