"""The home page, search, and the page of one project."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from ml_core.specs import SPECS
from webapp.datasets.models import Dataset
from webapp.datasets.queries.counts import masked_images
from webapp.home import overview
from webapp.jobs.models import Job, State
from webapp.jobs.pages.queue_context import devices_seen_by
from webapp.projects.access import get_visible, may_edit, projects_of, signed_in, visible
from webapp.projects.models import Project

JOBS_PER_PAGE = 50


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    devices, small, silent = devices_seen_by(user)
    context = {
        "running": overview.running_now(user),
        "ended": overview.ended_lately(user),
        "projects": overview.projects_with_counts(user),
        "next_steps": overview.next_steps(projects_of(user)),
        "devices": devices,
        "small_work": small,
        "silent_helpers": silent,
        "at_work_on": overview.at_work_on(user),
    }
    return render(request, "home/home.html", context)


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    text = request.GET.get("q", "").replace("\0", "").strip()
    context: dict[str, object] = {"search_text": text}
    if text:
        number = text.removeprefix("#")
        found = overview.experiments_of(user)
        by_number = found.filter(pk=int(number)) if number.isdecimal() and len(number) < 10 else found.none()
        context["jobs"] = [*by_number, *found.filter(name__icontains=text)[:50]]
        context["datasets"] = visible(Dataset.objects.select_related("project"), user).filter(name__icontains=text)[:50]
        context["projects"] = projects_of(user).filter(name__icontains=text)[:50]
    return render(request, "home/search.html", context)


@require_safe
def project(request: HttpRequest, project_id: int) -> HttpResponse:
    user = signed_in(request)
    found = get_visible(Project.objects.all(), user, project="", pk=project_id)
    datasets = list(found.datasets.all())
    newest = overview.newest_revisions(datasets)
    jobs_shown, chosen = _jobs(request, found)
    context = {
        "project": found,
        "may_edit": may_edit(user, found),
        "best": overview.best_so_far(found),
        "next_steps": overview.next_steps([found]),
        "datasets": [(d, newest.get(d.pk), masked_images(newest[d.pk]) if d.pk in newest else 0) for d in datasets],
        "experiments": found.experiments.all()[:10],
        "jobs": jobs_shown[:JOBS_PER_PAGE],
        "more": jobs_shown[JOBS_PER_PAGE - 1].pk if len(jobs_shown) > JOBS_PER_PAGE else None,
        "chosen": chosen,
        "states": State.choices,
        "kinds": [(kind, spec.title) for kind, spec in SPECS.items() if kind != "intake"],
    }
    return render(request, "home/project.html", context)


def _jobs(request: HttpRequest, found: Project) -> tuple[list[Job], dict[str, str]]:
    """One page of the project's jobs and one job more, by the filters in the URL."""
    chosen = {key: request.GET.get(key, "") for key in ("state", "kind", "whose", "before")}
    rows = found.jobs.exclude(kind="intake").select_related("created_by")
    if chosen["state"] in State.values:
        rows = rows.filter(state=chosen["state"])
    if chosen["kind"] in SPECS:
        rows = rows.filter(kind=chosen["kind"])
    if chosen["whose"] == "mine":
        rows = rows.filter(created_by=request.user.pk)
    if chosen["before"].isdecimal():
        rows = rows.filter(pk__lt=int(chosen["before"]))
    return list(rows[: JOBS_PER_PAGE + 1]), chosen
