"""`manage.py work` replaces itself by `python -m worker.runner`: web code may not import the worker."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Runs this host's workers: the fork server and one process per queue. Runs until stopped."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--queues", default="device,interactive,io", help="which of device, interactive, io (all)")

    def handle(self, *args: Any, **options: Any) -> None:
        os.chdir(settings.ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "worker.runner", "--queues", options["queues"]])  # noqa: S606  a list of our own
