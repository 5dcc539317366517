"""Migrates the database, for containers: waits for a database that is still starting."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection


class Command(BaseCommand):
    help = "Waits for the database and migrates it."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--wait", type=float, default=120, help="seconds to wait for the database (120)")

    def handle(self, *, wait: float, **_: Any) -> None:
        deadline = time.monotonic() + wait
        while True:
            try:
                connection.ensure_connection()
                break
            except OperationalError as error:
                if time.monotonic() > deadline:
                    raise CommandError(f"The database did not answer for {wait:g} s: {error}") from error
                time.sleep(1)
        call_command("migrate", verbosity=1, interactive=False)
