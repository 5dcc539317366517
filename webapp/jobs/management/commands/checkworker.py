"""Health check of this machine's workers, for containers: exit code 0 if every queue has a recent heartbeat."""

from __future__ import annotations

import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from webapp.jobs.lifecycle.heartbeats import workers

QUEUES = frozenset({"device", "interactive", "io"})
SILENT_SECONDS = 60


class Command(BaseCommand):
    help = "Fails when a worker of this machine has sent no heartbeat for a minute."
    requires_system_checks = ()

    def handle(self, **_: Any) -> None:
        here = socket.gethostname()
        alive = {w["queue"] for w in workers() if w["host"] == here and w["seen_seconds"] < SILENT_SECONDS}
        if missing := QUEUES - alive:
            raise CommandError(f"No heartbeat for {SILENT_SECONDS} s on {here}: {', '.join(sorted(missing))}.")
