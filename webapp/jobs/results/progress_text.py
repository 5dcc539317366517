"""Formats a job's progress: counted where counts are known, and never "0 of 0"."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils import timezone

from ml_core.job.time_text import duration
from ml_core.specs import SPECS
from webapp.jobs.lifecycle.leases import silent_seconds
from webapp.jobs.models import OWNED, Job


def kind_title(kind: str) -> str:
    return SPECS[kind].title if kind in SPECS else kind


def took(job: Job) -> timedelta | None:
    """Time from its first start to its end, or until now while it runs; else None."""
    until = timezone.now() if job.state in OWNED else job.ended_at
    return until - job.started_at if until and job.started_at else None


def progress_words(job: Job) -> str:
    """ "epoch 37 of 200 · 14 images/s · about 22 min left"; `job.ts` formats later snapshots in the same way.

    For a silent worker, the length of its silence replaces rate and remaining time, which are out of date by then.
    """
    parts = [_reached(job)]
    if (silent := silent_seconds(job)) is not None:
        parts.append(f"no signal from the worker for {duration(silent)}")
    else:
        parts += _pace(job.progress)
    return " · ".join(parts)


def _reached(job: Job) -> str:
    if not job.progress:
        return f"{SPECS[job.kind].verb}: starting" if job.kind in SPECS else "starting"
    return epochs_words(job.step, job.record.get("steps_per_epoch"), job.record.get("total_steps")) or _counted(
        job.progress
    )


def _pace(progress: dict[str, Any]) -> list[str]:
    found = []
    if progress.get("rate"):
        found.append(_rate(progress["rate"], str(progress.get("unit", ""))))
    if progress.get("left") is not None:
        found.append(f"about {duration(progress['left'])} left")
    return found


def epochs_words(step: int, per_epoch: int | None, total: int | None) -> str:
    """ "epoch 37 of 200"; empty for a job without epochs."""
    if not per_epoch or not total:
        return ""
    epochs = math.ceil(total / per_epoch)
    return f"epoch {min(step // per_epoch + 1, epochs):,} of {epochs:,}"


def _counted(progress: dict[str, Any]) -> str:
    stage = f"{progress['stage']}: " if progress.get("stage") else ""
    done, total, unit = progress.get("done", 0), progress.get("total"), progress.get("unit", "")
    if not total:
        return f"{stage}{intcomma(done)} {unit} so far"
    return f"{stage}{intcomma(done)} of {intcomma(total)} {unit}"


def _rate(rate: float, unit: str) -> str:
    if rate < 1:
        return f"{rate * 60:.2g} {unit}/min"
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"
