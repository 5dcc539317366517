"""Creates an account for a person and prints a sign-in link."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from webapp.projects.services import signin_link_create, user_invite


class Command(BaseCommand):
    help = "Makes an account for a person and prints a link that signs them in once, within 24 hours."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--admin", action="store_true", help="may manage the whole server")

    def handle(self, *, email: str, admin: bool, **_: Any) -> None:
        try:
            validate_email(email)
        except ValidationError:
            raise CommandError(f"{email} is not an e-mail address.") from None
        print(signin_link_create(user_invite(email, admin=admin)))
