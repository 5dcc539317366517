"""A worker's silence: how long it has not renewed the lease of its job, and from when on that is worth a word."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from webapp.jobs.models import OWNED, Job

WORTH_A_WORD = settings.LEASE_SECONDS / 2
"""A worker renews six times per lease: after half of one it has missed three. After a whole one it loses the job."""


def silent_seconds(job: Job) -> float | None:
    """Seconds since the worker last renewed its lease, once that is worth a word; else, and without a worker, None."""
    if job.state not in OWNED or job.lease_until is None:
        return None
    silent = settings.LEASE_SECONDS - (job.lease_until - timezone.now()).total_seconds()
    return round(silent, 1) if silent >= WORTH_A_WORD else None
