"""Jobs, the append-only sequence of their events, and the files that they produced.

States are changed only by `webapp.jobs.lifecycle.transitions`.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class State(models.TextChoices):
    WAITING = "waiting", "Waiting"
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    PAUSED = "paused", "Paused"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


OWNED = frozenset({State.RUNNING, State.STOPPING})
"""States in which a worker holds the lease."""


class Queue(models.TextChoices):
    DEVICE = "device"
    INTERACTIVE = "interactive"
    IO = "io"


def device_name(device: str, *, host: str) -> str:
    """The display name of `cpu` or `cuda:0`; `host` is the machine's name, empty if unknown."""
    kind, _, number = device.partition(":")
    name = {"cpu": "CPU", "cuda": "GPU"}.get(kind, device)
    return " ".join(part for part in (name, number if kind == "cuda" else "", f"of {host}" if host else "") if part)


class Job(models.Model):
    project = models.ForeignKey("projects.Project", models.CASCADE, related_name="jobs")
    experiment = models.ForeignKey("experiments.Experiment", models.SET_NULL, null=True, related_name="jobs")
    kind = models.CharField(max_length=30)
    name = models.CharField(max_length=200)
    spec = models.JSONField()
    inputs = models.JSONField(default=dict)
    """Slot -> {"revision": id} | {"job": id, "artifact": kind} | {"upload": id}."""
    after: models.ManyToManyField[Job, models.Model] = models.ManyToManyField(
        "self", symmetrical=False, related_name="followers"
    )
    extends = models.ForeignKey("self", models.SET_NULL, null=True, related_name="extensions")
    """A finished job whose full state this one starts from."""

    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    queue = models.CharField(max_length=12, choices=Queue.choices)
    stop_wanted = models.CharField(max_length=6, blank=True, choices=[(w, w) for w in ("pause", "cancel")])
    epoch = models.PositiveIntegerField(default=0)
    """The fencing token: incremented by every claim, checked by every write."""
    lease_until = models.DateTimeField(null=True)
    worker = models.CharField(max_length=200, blank=True)
    device = models.CharField(max_length=100, blank=True)
    failures = models.PositiveSmallIntegerField(default=0)
    """Consecutive attempts without progress; three end the job."""
    reason = models.TextField(blank=True)
    """The sentence shown with the state: why it waits, failed or was stopped."""
    log_tail = models.TextField(blank=True)

    progress = models.JSONField(default=dict)
    """Last `progress` event: {"stage", "done", "total", "unit", "rate", "left"}; empty while unknown."""
    results = models.JSONField(default=dict)
    """Headline figures of a finished job, from its last `results` event."""
    watched = models.JSONField(default=dict)
    """{"name", "value", "best", "best_step"} of the metric that lists show (`results/tracked_metric.py`)."""
    step = models.BigIntegerField(default=0)
    checkpoint_step = models.BigIntegerField(null=True)
    record = models.JSONField(default=dict)
    """The run record: code version, package versions, device, host, threads, precision, input hashes."""

    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    queued_at = models.DateTimeField(null=True)
    turn = models.DateTimeField(default=timezone.now)
    """Sort key of queued jobs: the time at which it was queued, until a user moves it (`lifecycle/queue_order.py`)."""
    hinted_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["project", "-id"]),
            models.Index(fields=["state", "queue", "turn"]),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.name}"

    @property
    def device_name(self) -> str:
        """The device that it runs on or ended on, for display: "GPU 0 of lab-2"; empty before it starts."""
        return device_name(self.device, host=self.worker.rpartition(":")[0]) if self.device else ""


class Event(models.Model):
    """One event of a job: a trainer's message or a change of state. Per job, id order is commit order."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="events")
    epoch = models.PositiveIntegerField()
    seq = models.BigIntegerField(null=True)
    """Line number in that attempt's events.jsonl; null for events of the server."""
    kind = models.CharField(max_length=12)
    name = models.CharField(max_length=100, blank=True)
    step = models.BigIntegerField(null=True)
    value = models.FloatField(null=True)
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    data = models.JSONField(null=True)
    time = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["job", "id"])]
        constraints = [models.UniqueConstraint(fields=["job", "epoch", "seq"], name="one_event_per_line")]


class Artifact(models.Model):
    """A file that a job produced, in the default storage under its hash."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="artifacts")
    event = models.OneToOneField(Event, models.CASCADE, related_name="artifact")
    kind = models.CharField(max_length=30)
    """Its kind: encoder, segmenter, colour, picture, prediction, cam, table ..."""
    name = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    media_type = models.CharField(max_length=100)
    step = models.BigIntegerField(null=True)
    epoch = models.PositiveIntegerField()
    facts = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["job", "kind"])]


UNCLAIMED = (State.WAITING, State.QUEUED, State.PAUSED)
