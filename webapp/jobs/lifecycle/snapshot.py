"""A job's current state for pages and scripts, and the actions that it allows."""

from __future__ import annotations

from typing import Any

from ml_core.specs import SPECS
from ml_core.specs.fields import TrainingSpec
from webapp.jobs.lifecycle.leases import silent_seconds
from webapp.jobs.models import OWNED, UNCLAIMED, Job, State


def allowed_actions(job: Job) -> list[str]:
    """The actions that the job's state allows, for any user: callers check permissions."""
    state = State(job.state)
    found = []
    if state in UNCLAIMED or (state in OWNED and job.stop_wanted != "cancel"):
        found.append("cancel")
    if state in (State.WAITING, State.QUEUED, State.RUNNING):
        found.append("pause")
    if state == State.PAUSED:
        found.append("resume")
    if state in (State.FAILED, State.CANCELLED):
        found.append("retry")
    if job.kind != "intake":
        found.append("clone")
    if state == State.DONE and job.kind in SPECS and issubclass(SPECS[job.kind], TrainingSpec):
        found.append("extend")
    return found


def snapshot(job: Job) -> dict[str, Any]:
    """The job as a page shows it above its charts (docs/contracts.md)."""
    return {
        "id": job.pk,
        "name": job.name,
        "kind": job.kind,
        "state": job.state,
        "state_label": job.get_state_display(),
        "reason": job.reason,
        "stop_wanted": job.stop_wanted,
        "epoch": job.epoch,
        "attempt": job.epoch,
        "step": job.step,
        "total_steps": job.record.get("total_steps"),
        "steps_per_epoch": job.record.get("steps_per_epoch"),
        "checkpoint_step": job.checkpoint_step,
        "progress": job.progress,
        "results": job.results,
        "device": job.device,
        "worker": job.worker,
        "silent_seconds": silent_seconds(job),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
        "may": allowed_actions(job),
    }
