"""What a job's page requests besides itself: events, points, the run record, the log, files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotModified,
    JsonResponse,
    StreamingHttpResponse,
)
from django.views.decorators.http import require_safe

from webapp.jobs.lifecycle import events as lifecycle_events
from webapp.jobs.lifecycle import snapshot
from webapp.jobs.models import Artifact, Job
from webapp.jobs.results.run_record import run_record
from webapp.projects.access import get_visible, signed_in
from webapp.streaming import csv_parts, file_parts, streamed

EVENTS_AT_ONCE = 2000
LOG_BYTES = 2**20
_SHOWN_IN_PLACE = {"image/png", "image/webp"}
_COLUMNS = ("name", "step", "epoch", "time", "attempt", "value", "low", "high")


@require_safe
def job_events(request: HttpRequest, job_id: int) -> HttpResponse:
    """The same message as the WebSocket's, over HTTP."""
    job = get_visible(Job.objects.all(), signed_in(request), pk=job_id)
    given = request.GET.get("after", "0")
    cursor = int(given) if given.isdecimal() and len(given) < 19 else 0
    events = lifecycle_events.events_after(job, cursor, limit=EVENTS_AT_ONCE)
    newest = events[-1]["id"] if events else cursor
    more = len(events) == EVENTS_AT_ONCE
    return JsonResponse({"job": snapshot.snapshot(job), "events": events, "cursor": newest, "more": more})


@require_safe
def job_points(request: HttpRequest, job_id: int) -> StreamingHttpResponse:
    """Every point as CSV; of several attempts' points for one name and step, the newest attempt's."""
    job = get_visible(Job.objects.all(), signed_in(request), pk=job_id)
    parts = csv_parts(_points(job))
    return streamed(request, parts, filename=f"job-{job.pk}-points.csv", media_type="text/csv; charset=utf-8")


def _points(job: Job) -> Iterator[Sequence[object]]:
    yield _COLUMNS
    points = job.events.filter(kind="point")
    newest = points.order_by("name", "step", "-epoch", "-id").distinct("name", "step")
    per_epoch = snapshot.snapshot(job)["steps_per_epoch"]
    for p in newest.iterator(chunk_size=5000):
        epoch = f"{p.step / per_epoch:.4f}" if per_epoch and p.step is not None else ""
        value = (p.data or {}).get("reason", "") if p.value is None else repr(p.value)
        yield p.name, p.step, epoch, p.time.isoformat(), p.epoch, value, p.low, p.high


@require_safe
def job_record(request: HttpRequest, job_id: int) -> HttpResponse:
    """The whole run record as a file: specification, environment, results."""
    job = get_visible(Job.objects.select_related("project"), signed_in(request), pk=job_id)
    response = JsonResponse(run_record(job), json_dumps_params={"indent": 2, "ensure_ascii": False})
    response["Content-Disposition"] = f'attachment; filename="job-{job.pk}-record.json"'
    return response


@require_safe
def job_log(request: HttpRequest, job_id: int) -> HttpResponse:
    """The last MiB of the newest attempt's log; if this host does not have it, the lines kept in the database."""
    job = get_visible(Job.objects.all(), signed_in(request), pk=job_id)
    text = _log_tail(job)
    if (lines := request.GET.get("lines", "")).isdecimal():
        text = "\n".join(text.splitlines()[-int(lines) :])
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


def _log_tail(job: Job) -> str:
    path: Path = settings.JOBS / f"job-{job.pk}" / f"epoch-{job.epoch}" / "log.txt"
    try:
        with open(path, "rb") as log:
            length = log.seek(0, 2)
            log.seek(max(0, length - LOG_BYTES))
            return log.read().decode("utf-8", errors="replace")
    except OSError:
        return job.log_tail


@require_safe
def artifact(request: HttpRequest, artifact_id: int, name: str) -> HttpResponseBase:
    """A file that a job produced. Images that Cristae encoded are shown inline; anything else is a download."""
    found = get_visible(Artifact.objects.all(), signed_in(request), project="job__project", pk=artifact_id)
    tag = f'"{found.sha256}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified()
    try:
        parts = file_parts(default_storage.open(found.sha256))
    except FileNotFoundError:
        raise Http404(f"The file {found.name} of job {found.job_id} is missing from the storage.") from None
    shown = found.media_type in _SHOWN_IN_PLACE and "download" not in request.GET
    response = streamed(request, parts, filename=_filename(found), media_type=found.media_type, in_place=shown)
    response["Content-Length"] = str(found.size)
    response["Cache-Control"] = "private, max-age=31536000, immutable"
    response["ETag"] = tag
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _filename(found: Artifact) -> str:
    safe = re.sub(r"[^\w.() -]+", "_", found.name).strip(" .") or found.kind
    return f"job-{found.job_id}-{safe}"
