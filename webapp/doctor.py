"""Is the server well? One check per part; a check that cannot run says so and is not taken for a good one."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from webapp.jobs import services
from webapp.templating import manifest, size

LEAST_FREE = 10 * 10**9
"""Below this the next large upload or checkpoint may not fit."""
SILENT = 31


@dataclass(frozen=True)
class Finding:
    """`state` is done, warning or failed, as the chips know them."""

    name: str
    state: str
    sentence: str
    remedy: str = ""


def _database() -> Finding:
    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version')")
        version = cursor.fetchone()[0].split()[0]
    return Finding("Database", "done", f"PostgreSQL {version} answered in {_milliseconds(began)}.")


def _broker() -> Finding:
    began = time.perf_counter()
    with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=3, socket_timeout=3) as client:
        version = client.info("server")["redis_version"]
    return Finding("Broker", "done", f"Redis {version} answered in {_milliseconds(began)}.")


def _workers() -> Finding:
    found = services.workers()
    missing = sorted({"device", "interactive", "io"} - {w["queue"] for w in found if w["seen_seconds"] < SILENT})
    if not found:
        return Finding(
            "Workers",
            "failed",
            "No worker has been heard from. Queued jobs wait and are safe.",
            "Start one: `python manage.py work`, or the worker service of compose.",
        )
    seen = "; ".join(f"{w['host']} {w['queue']}, {w['seen_seconds']:.0f} s ago" for w in found)
    if missing:
        return Finding(
            "Workers", "warning", f"Nobody works on: {', '.join(missing)}. Heard from: {seen}.", "Restart them."
        )
    return Finding("Workers", "done", f"{seen}.")


def _devices() -> Finding:
    devices = [str(d) for w in services.workers() if w["queue"] == "device" for d in w["devices"]]
    if not devices:
        return Finding("Devices", "warning", "No worker has said which devices it has.", "See Workers.")
    names = ", ".join(devices)
    if all(d.startswith("cpu") for d in devices):
        return Finding("Devices", "done", f"{names}. There is no GPU: the preset quick takes minutes, the others days.")
    return Finding("Devices", "done", f"{names}.")


def _disk() -> Finding:
    usage = shutil.disk_usage(settings.DATA)
    sentence = f"{size(usage.free)} free of {size(usage.total)} at {settings.DATA}."
    if usage.free < LEAST_FREE:
        return Finding(
            "Disk", "warning", sentence, f"Free some, or move {settings.DATA} to a larger disk (CRISTAE_DATA)."
        )
    if not os.access(settings.DATA, os.W_OK):
        return Finding("Disk", "failed", f"{settings.DATA} cannot be written to.", "Give its user the right to write.")
    return Finding("Disk", "done", sentence)


def _front_end() -> Finding:
    if "frame.ts" not in manifest():
        return Finding("Front end", "failed", "The scripts and styles are not built.", "Run `make setup`.")
    return Finding("Front end", "done", "Scripts and styles are built.")


def _trainer() -> Finding:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Finding("Trainer", "done", "The web has no PyTorch of its own, as it should be in containers.")
    return Finding("Trainer", "done", f"PyTorch {version}, started by {settings.TRAINER}.")


CHECKS: dict[str, Callable[[], Finding]] = {
    "Database": _database,
    "Broker": _broker,
    "Workers": _workers,
    "Devices": _devices,
    "Disk": _disk,
    "Front end": _front_end,
    "Trainer": _trainer,
}


def examine() -> list[Finding]:
    """Every check, what needs somebody first."""
    findings = []
    for name, check in CHECKS.items():
        try:
            findings.append(check())
        except Exception as error:  # noqa: BLE001 - whatever stops a check is its finding
            said = str(error).strip().splitlines()
            findings.append(
                Finding(name, "failed", f"The check could not run: {said[0] if said else type(error).__name__}")
            )
    order = {"failed": 0, "warning": 1, "done": 2}
    return sorted(findings, key=lambda f: order[f.state])


@require_safe
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    findings = examine()
    needs = sum(f.state != "done" for f in findings)
    return render(request, "doctor.html", {"findings": findings, "needs": needs, "now": timezone.now()})


@login_not_required
@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """For load balancers and containers: 200 when a page could be served. Says nothing about the server."""
    try:
        _database()
    except Exception:  # noqa: BLE001 - any reason at all
        return JsonResponse({"ok": False}, status=503)
    return JsonResponse({"ok": True})


def _milliseconds(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.0f} ms"
