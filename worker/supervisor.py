"""Supervises one claimed job: prepares its folder, starts a trainer, collects events, stops it, records the outcome."""

from __future__ import annotations

import errno
import json
import logging
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import Error, connection
from django.db.models.functions import Now

from ml_core.job import checkpoints
from ml_core.specs import SPECS
from webapp.jobs.inputs import InputGone, resolve
from webapp.jobs.job_kinds import KINDS
from webapp.jobs.lifecycle.leases import Fenced, database_is_away, locked_attempt, stop_wanted
from webapp.jobs.lifecycle.transitions import job_transition
from webapp.jobs.models import Event, Job, State
from webapp.version import code_version
from worker import attempt_folders, trainer_process
from worker.collector import Collector
from worker.finishers import finisher_of
from worker.host_devices import Slot
from worker.lease_renewal import LeaseKeeper
from worker.outcomes import Attempt, Ending, decide

log = logging.getLogger(__name__)

TICK_SECONDS = 0.2
LOOK_SECONDS = 0.5
"""Interval between two reads of the row for requests."""
LOG_LINES, LOG_BYTES = 1000, 64 * 1024
MOST_REFUSALS = 5
"""A deadlock or the like passes at the next try; an error that repeats means that the row cannot be written."""


@dataclass(frozen=True)
class Grace:
    """Seconds after `stop` until TERM, and until KILL."""

    term: float
    kill: float


CANCEL = Grace(term=4.0, kill=8.0)
PAUSE = Grace(term=60.0, kill=90.0)
"""Writing a checkpoint may take long."""
LEAVE = Grace(term=15.0, kill=20.0)
"""A worker that is asked to exit has about half a minute."""

_ASKED_FOR = (State.CANCELLED, State.PAUSED)
"""For these the row's reason already names the user."""

R = TypeVar("R")


class Leaving(Exception):
    """This worker exits while the database is away: the lease expires by itself, and the next worker takes over."""


class Supervisor:
    """One attempt at one job. `leave` is set when this worker is to exit."""

    def __init__(self, job: Job, *, slot: Slot, leave: threading.Event) -> None:
        self._job = job
        self._slot = slot
        self._leave = leave
        self._folder = attempt_folders.attempt_folder(job.pk, job.epoch)
        self._keeper = LeaseKeeper(job)
        self._collector = Collector(job, self._folder)
        self._trainer: trainer_process.Trainer | None = None
        self._stopping_since: float | None = None
        self._told_to_leave = False
        self._looked = 0.0
        self._refused = 0
        self._forgotten = False

    def run(self) -> None:
        """Returns when this worker has lost the job, or the row has the outcome. Raises only unexpected errors."""
        log.info("Job %d: attempt %d on %s.", self._job.pk, self._job.epoch, self._slot.device)
        self._keeper.start()
        try:
            self._end(self._attempt())
        except (Fenced, Leaving) as reason:
            log.warning("%s", reason)
        finally:
            self._keeper.close()
            connection.close()

    def _attempt(self) -> Ending:
        try:
            if early := self._retry_outage(self._prepare):
                return early
            if self._leave.is_set():
                return Ending(State.QUEUED, "The worker was stopped before the job began.", self._job.failures)
            self._start()
            code = self._follow()
            self._retry_outage(self._collector.collect_all)
            return self._decide(code)
        except InputGone as gone:
            return Ending(State.FAILED, str(gone))
        except OSError as error:
            log.exception("Job %d could not be run.", self._job.pk)
            return _ending_of(error)
        except Error as error:
            log.exception("Job %d: an event of its trainer was refused.", self._job.pk)
            return Ending(State.FAILED, f"The trainer's events could not be stored: {error}".strip())
        finally:
            if self._trainer is not None:
                self._trainer.close()

    # --- preparation ---

    def _prepare(self) -> Ending | None:
        """Writes everything that the trainer reads from its folder. Safe to repeat from the start."""
        job = self._job
        self._folder.mkdir(parents=True, exist_ok=True)
        for epoch, folder in attempt_folders.uncollected_attempts(job.pk, below=job.epoch):
            patience = settings.LEASE_SECONDS * 1.5
            ended = attempt_folders.wait_for_end(folder, patience=patience, check=self._keeper.check)
            Collector(job, folder, of_epoch=epoch).collect_all()
            if ended:
                attempt_folders.note_collected(folder)
        resume = attempt_folders.newest_checkpoint(job.pk, below=job.epoch)
        extend = self._checkpoint_to_extend() if resume is None else None
        inputs: dict[str, Any] = {"version": 1, "blobs": str(settings.BLOBS), "prepared": str(settings.PREPARED)}
        inputs |= {name: str(path) for name, path in (("resume", resume), ("extend", extend)) if path}
        inputs["slots"] = resolve(job)
        (self._folder / "spec.json").write_text(json.dumps(job.spec, indent=2))
        (self._folder / "inputs.json").write_text(json.dumps(inputs, indent=2))
        step = checkpoints.step_of(resume) if resume else None
        with locked_attempt(job.pk, epoch=job.epoch) as row:
            if row.stop_wanted:
                return decide(self._how_it_ended(code=-signal.SIGTERM, row=row))
            said = {"number": job.epoch, "resumed_step": step}
            if not row.events.filter(epoch=job.epoch, kind="attempt").exists():
                Event.objects.create(job=row, epoch=job.epoch, kind="attempt", time=Now(), data=said)
            columns = {"step": step or 0, "checkpoint_step": step, "record": {**row.record, **self._run_record(inputs)}}
            Job.objects.filter(pk=row.pk, epoch=job.epoch).update(**columns)
        return None

    def _checkpoint_to_extend(self) -> Path | None:
        before = self._job.extends
        if before is None:
            return None
        found = attempt_folders.newest_checkpoint(before.pk, below=before.epoch + 1)
        if found is None:
            raise InputGone(f"{before} has left no whole checkpoint to carry on from. Start a new job instead.")
        return found

    def _run_record(self, inputs: dict[str, Any]) -> dict[str, Any]:
        slots: dict[str, dict[str, Any]] = inputs["slots"]
        hashes = {name: slot.get("manifest") or slot.get("sha256") for name, slot in slots.items()}
        return {
            "host": socket.gethostname(),
            "cristae": code_version(),
            "inputs": {k: v for k, v in hashes.items() if v},
        }

    def _start(self) -> None:
        forkable = KINDS[self._job.kind].forkable
        self._trainer = trainer_process.start(
            self._folder, forkable=forkable, slot=self._slot, lease=settings.LEASE_SECONDS
        )
        attempt_folders.note_trainer(self._folder, pid=self._trainer.pid)
        self._keeper.attach(self._trainer)

    # --- while the trainer runs ---

    def _follow(self) -> int:
        """Collects events and forwards requests until the trainer has exited; returns its exit code."""
        assert self._trainer is not None
        while True:
            self._keeper.check()
            code = self._trainer.poll()
            collected = 0
            try:
                self._check_row()
                collected = self._collector.collect()
                self._refused = 0
            except Error as error:
                self._tolerate_outage(error)
            if self._collector.checkpoints >= checkpoints.KEPT and not self._forgotten:
                self._forgotten = True
                attempt_folders.forget_checkpoints(self._job.pk, below=self._job.epoch)
            if code is not None:
                return code
            self._steer(self._keeper.wanted)
            if not collected:
                time.sleep(TICK_SECONDS)

    def _check_row(self) -> None:
        """Reads the requested action from the row, more often than the renewals do."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._keeper.wanted = stop_wanted(self._job.pk, epoch=self._job.epoch)
            self._looked = time.monotonic()

    def _steer(self, wanted: str) -> None:
        """Asks the trainer to stop if that is requested; escalates to TERM and KILL with time."""
        assert self._trainer is not None
        grace = CANCEL if wanted == "cancel" else PAUSE if wanted == "pause" else None
        if self._leave.is_set() or self._keeper.cut_off:
            self._told_to_leave = True
            grace = grace if grace is CANCEL else LEAVE
        if grace is None:
            return
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self._trainer.stop()
        waited = time.monotonic() - self._stopping_since
        if waited > grace.kill:
            self._trainer.signal_group(signal.SIGKILL)
        elif waited > grace.term:
            self._trainer.signal_group(signal.SIGTERM)

    def _tolerate_outage(self, error: Error) -> None:
        """Ignores an unreachable database; raises an error that the database returns repeatedly."""
        connection.close()
        if database_is_away(error):
            return
        self._refused += 1
        if self._refused >= MOST_REFUSALS:
            raise error

    def _retry_outage(self, act: Callable[[], R]) -> R:
        """Calls `act` until it succeeds, while the database is away and this worker is not to exit."""
        while True:
            self._keeper.check()
            try:
                return act()
            except Error as error:
                self._tolerate_outage(error)
                if self._leave.wait(TICK_SECONDS):
                    raise Leaving(f"Job {self._job.pk} is left to the next worker: no database.") from error

    # --- the outcome ---

    def _decide(self, code: int) -> Ending:
        def judge() -> Ending:
            with locked_attempt(self._job.pk, epoch=self._job.epoch) as row:
                return decide(self._how_it_ended(code=code, row=row))

        return self._retry_outage(judge)

    def _how_it_ended(self, *, code: int, row: Job) -> Attempt:
        crashes = row.events.filter(kind="state", data__has_key="crash_step").order_by("pk").last()
        words = [line for line in _log_tail(self._folder).splitlines() if line.strip()]
        return Attempt(
            code=code,
            wanted=row.stop_wanted,
            told_to_leave=self._told_to_leave,
            fault=self._collector.fault,
            last_words=words[-1].strip()[:300] if words else "",
            step=self._collector.step,
            checkpoints=self._collector.checkpoints,
            checkpoint_step=row.checkpoint_step,
            failures=row.failures,
            crashed_before_at=(crashes.data or {}).get("crash_step") if crashes else None,
        )

    def _end(self, ending: Ending) -> None:
        """Changes the state in the same transaction as everything else that the outcome writes."""
        try:
            self._retry_outage(lambda: self._change(ending))
        except (Fenced, Leaving):
            raise
        except Exception as error:
            # The job's results cannot be stored: that is a failure too, and must be shown.
            log.exception("Job %d could not be finished.", self._job.pk)
            refused = _refusal_of(error)
            self._retry_outage(lambda: self._change(refused))

    def _change(self, ending: Ending) -> None:
        job = self._job
        with locked_attempt(job.pk, epoch=job.epoch) as row:
            missing = self._missing(row) if ending.to == State.DONE else []
            if missing:
                ending = Ending(State.FAILED, f"The job ended without its {' and '.join(missing)}. See its log.")
            if ending.to == State.DONE:
                finisher_of(job.kind)(row, self._folder)
            job_transition(
                job.pk,
                to=ending.to,
                of_epoch=job.epoch,
                reason=f"{row.reason} {ending.reason}".strip() if ending.to in _ASKED_FOR else ending.reason,
                facts=ending.facts,
                failures=ending.failures,
                log_tail=_log_tail(self._folder),
            )
        log.info("Job %d: %s. %s", job.pk, ending.to, ending.reason)

    @staticmethod
    def _missing(row: Job) -> list[str]:
        made = set(row.artifacts.values_list("kind", flat=True))
        return [kind for kind in SPECS[row.kind].makes if kind not in made]


def _refusal_of(error: Exception) -> Ending:
    """The outcome of a job whose results could not be stored."""
    if isinstance(error, OSError):
        return _ending_of(error)
    said = str(error) or type(error).__name__
    return Ending(State.FAILED, f"The work was done, but its result could not be stored: {said}")


def _ending_of(error: OSError) -> Ending:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Ending(State.FAILED, f"The disk of {settings.DATA} is full. Free some space, then start it again.")
    where = f" ({error.filename})" if error.filename else ""
    reason = f"This worker could not run the job: {error.strerror or error}{where}."
    return Ending(State.FAILED, f"{reason} Fix that, then start it again.")


def _log_tail(folder: Path) -> str:
    """The end of the trainer's log, for the page, if the web server cannot read this host's files."""
    try:
        with open(folder / "log.txt", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
            lines = file.read().decode("utf-8", errors="replace").replace("\x00", "\ufffd").splitlines()
    except OSError:
        return ""
    return "\n".join(deque(lines, LOG_LINES))
