"""Prints a link that signs one person in once, within 24 hours."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from webapp.projects.models import User
from webapp.projects.services import signin_link_create

FIRST_ADMINISTRATOR = "admin"


class Command(BaseCommand):
    help = "Prints a link that signs a person in once, within 24 hours."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", nargs="?", help="user name or e-mail address; without it, the first administrator")
        parser.add_argument("--make", action="store_true", help="make the user, an administrator, where there is none")

    def handle(self, *, user: str | None, make: bool, **_: Any) -> None:
        found = _find(user)
        if found is None and make:
            found = User.objects.create_superuser(user or FIRST_ADMINISTRATOR)
        if found is None:
            who = f"user {user}" if user else "administrator"
            raise CommandError(f"There is no {who}. Make one: manage.py invite EMAIL{'' if user else ' --admin'}")
        if not found.is_active:
            raise CommandError(f"{found} may not sign in any more.")
        print(signin_link_create(found))


def _find(user: str | None) -> User | None:
    if user is None:
        return User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    return User.objects.filter(username=user).first() or User.objects.filter(email__iexact=user).first()
