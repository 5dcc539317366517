"""Renews a claimed job's lease and extends it to the trainer, on its own thread, as storing a file may take long."""

from __future__ import annotations

import logging
import signal
import threading
import time

from django.conf import settings
from django.db import Error, connection

from webapp.jobs.lifecycle.leases import Fenced, database_is_away, lease_renew
from webapp.jobs.models import Job
from worker.trainer_process import Trainer

log = logging.getLogger(__name__)

OUTAGE_SECONDS = 600.0
"""How long a trainer is kept running without a database (docs/decisions/database-away.md)."""


class LeaseKeeper:
    """Renews from `start` to `close`. `wanted` is the requested action for the job, as of the last renewal."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._renewed = time.monotonic()
        self._trainer: Trainer | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._fenced = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of job {job.pk}", daemon=True)
        self.wanted = job.stop_wanted

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def attach(self, trainer: Trainer) -> None:
        """Extends the lease to the trainer, which is killed as soon as this worker loses the job."""
        with self._lock:
            self._trainer = trainer
            trainer.feed(settings.LEASE_SECONDS - (time.monotonic() - self._renewed))
            if self._fenced.is_set():
                trainer.signal_group(signal.SIGKILL)

    def check(self) -> None:
        """Raises Fenced if this worker has lost the job."""
        if self._fenced.is_set():
            raise Fenced(f"Job {self._job.pk} is no longer this worker's (attempt {self._job.epoch}).")

    @property
    def cut_off(self) -> bool:
        """Whether the database has been away for so long that the trainer should stop, too."""
        return time.monotonic() - self._renewed > OUTAGE_SECONDS

    def _run(self) -> None:
        try:
            while not self._done.wait(settings.RENEW_SECONDS) and not self._fenced.is_set():
                self._renew()
        finally:
            connection.close()

    def _renew(self) -> None:
        began = time.monotonic()
        try:
            self.wanted = lease_renew(self._job.pk, epoch=self._job.epoch)
        except Fenced:
            self.fence()
            return
        except Error as error:
            connection.close()
            if not database_is_away(error):
                log.warning("The lease of job %d was not renewed: %s", self._job.pk, error)
                return
            # No other worker can claim the job either, and the reaper allows one lease once the database is back.
        else:
            self._renewed = began
        self._feed(settings.LEASE_SECONDS - (time.monotonic() - began))

    def _feed(self, seconds: float) -> None:
        with self._lock:
            if self._trainer is not None:
                self._trainer.feed(seconds)

    def fence(self) -> None:
        """Called when this worker has lost the job: kills the trainer at once, and makes `check` raise."""
        with self._lock:
            self._fenced.set()
            if self._trainer is not None:
                self._trainer.signal_group(signal.SIGKILL)
