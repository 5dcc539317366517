"""Creates a token for scripts and prints it once."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from webapp.api.services import token_create
from webapp.projects.models import User


class Command(BaseCommand):
    help = "Makes a token for scripts: `Authorization: Bearer <token>` on every request to /api/v1/."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="user name or e-mail address")
        parser.add_argument("--name", default="script", help="what it is for")
        parser.add_argument("--write", action="store_true", help="may also submit and stop jobs, and change datasets")
        parser.add_argument("--days", type=int, default=365, help="how long it stays valid")

    def handle(self, *, user: str, name: str, write: bool, days: int, **_: object) -> None:
        found = User.objects.filter(username=user).first() or User.objects.filter(email=user).first()
        if found is None:
            raise CommandError(f"There is no user {user}. `manage.py invite {user}` makes one.")
        print(token_create(found, name=name, may_write=write, days=days))
