"""`manage.py reapjobs`: queues jobs again whose worker is gone, and deletes abandoned uploads.

Several may run at once.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from typing import Any

import redis
from django.core.management.base import BaseCommand
from django.db import Error, connection

from webapp.datasets.uploads.services import uploads_sweep
from webapp.jobs.lifecycle.heartbeats import reaper_seen
from webapp.jobs.lifecycle.leases import database_is_away
from webapp.jobs.lifecycle.reaper import INTERVAL, Reaper

log = logging.getLogger("webapp.jobs.lifecycle.reaper")

SWEEP_SECONDS = 600.0
"""Interval between two checks for abandoned uploads."""


class Command(BaseCommand):
    requires_system_checks = ()
    help = "Returns jobs whose worker has died to the queue, and repeats hints that were lost. Runs until stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        reaper = Reaper()
        swept = 0.0
        away = False
        while not stop.is_set():
            try:
                if ended := reaper.round():
                    log.warning("%d job(s) had lost their worker.", ended)
                if time.monotonic() - swept > SWEEP_SECONDS:
                    swept = time.monotonic()
                    uploads_sweep()
                away = False
                with contextlib.suppress(redis.RedisError):
                    reaper_seen()
            except Error as error:
                connection.close()
                if not database_is_away(error):
                    log.exception("A round failed; the next one tries again.")
                elif not away:
                    log.warning("The database does not answer; no job is reaped until it has answered for one lease.")
                    away = True
                reaper.lost_sight()
            stop.wait(INTERVAL)
