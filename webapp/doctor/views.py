"""Pages of the doctor, and the health check for load balancers."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from webapp.doctor import selftest
from webapp.doctor.checks import CHECKS
from webapp.doctor.findings import examine, report
from webapp.version import code_version


@require_safe
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    findings, now = examine(CHECKS), timezone.now()
    context = {
        "findings": findings,
        "needs": sum(finding.state != "done" for finding in findings),
        "now": now,
        "report": report(findings, version=code_version(), now=f"{now:%Y-%m-%d %H:%M} UTC"),
    }
    return render(request, "doctor/doctor.html", context)


@require_POST
def selftest_new(request: HttpRequest) -> HttpResponse:
    try:
        return redirect("selftest", selftest.selftest_start())
    except selftest.AWAY:
        messages.error(request, "The self-test was not started: the broker did not answer. See Broker below.")
        return redirect("doctor")


@require_safe
@never_cache
def selftest_page(request: HttpRequest, ticket: str) -> HttpResponse:
    """The progress of a self-test; the page polls until it has ended."""
    try:
        steps = selftest.selftest_steps(ticket)
    except selftest.AWAY:
        steps = [selftest.Step("Broker", "running", "The broker does not answer; trying again.")]
    if steps is None:
        raise Http404
    going = any(step.state == "running" for step in steps)
    return render(request, "doctor/selftest.html", {"steps": steps, "going": going, "ticket": ticket})


@login_not_required
@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """For load balancers and containers: 200 if a page could be served. Reveals nothing about the server."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception:  # noqa: BLE001 - any failure means unhealthy
        return JsonResponse({"ok": False}, status=503)
    return JsonResponse({"ok": True})
