"""Pages of datasets: the grid with its doctor and history, the viewer of one item, a new dataset."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from webapp.datasets import services
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Revision, Upload
from webapp.datasets.pages import doctor_tab, masks_tab, upload_reports
from webapp.datasets.pages.dataset_actions import split_request
from webapp.datasets.pages.forms import DatasetForm, pinned_revision
from webapp.datasets.pictures import colorized
from webapp.datasets.queries import counts, item_pages, revision_diff
from webapp.datasets.queries.filters import Filters
from webapp.datasets.revisions.split_plan import SplitRequest, split_plan
from webapp.jobs.models import Artifact
from webapp.projects.access import get_editable, get_visible, may_edit, signed_in
from webapp.projects.models import Project

TABS = ("items", "colours", "splits", "masks", "doctor", "history")


REPORTS_SHOWN_FOR = timedelta(hours=12)


REPORTS_SHOWN = 10
"""Several archives may have been dropped at once, and none of them fails unseen."""


@require_http_methods(["GET", "HEAD", "POST"])
def dataset_new(request: HttpRequest, project_id: int) -> HttpResponse:
    user = signed_in(request)
    project = get_editable(Project.objects.all(), user, project="", pk=project_id)
    form = DatasetForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        kind = form.cleaned_data["kind"] or Dataset.Kind.MICROGRAPHS
        made = services.dataset_create(project=project, user=user, name=form.cleaned_data["name"], kind=kind)
        return redirect("dataset", made.pk)
    return render(request, "datasets/new.html", {"project": project, "form": form}, status=422 if form.errors else 200)


@require_safe
def dataset(request: HttpRequest, dataset_id: int) -> HttpResponse:
    user = signed_in(request)
    found = get_visible(Dataset.objects.select_related("project", "origin__dataset"), user, pk=dataset_id)
    revisions = list(found.revisions.select_related("created_by"))
    revision = _chosen(revisions, request.GET.get("revision", ""))
    tab = request.GET.get("tab", "") if request.GET.get("tab") in TABS else "items"
    context: dict[str, Any] = {
        "project": found.project,
        "dataset": found,
        "revision": revision,
        "newest": not revisions or revision == revisions[0],
        "tab": tab,
        "may_edit": may_edit(user, found.project),
        "problems": counts.problems_in(revision) if revision else 0,
        "colours": colorized.colours_of(found, user=user) if revision else [],
        **_uploads(found),
    }
    if tab == "history":
        context |= {"revisions": revisions, "all_reports": _reports(upload_reports.uploads_ended(found)[:50])}
        if revision and revision.number > 1 and request.GET.get("revision"):
            context["difference"] = revision_diff.difference_of(revision)
    elif revision and tab == "colours":
        context |= _pairs(request, revision, context["colours"])
    elif revision and tab == "splits":
        context |= {
            "sides": counts.part_counts(revision),
            "leaks": counts.leaks_of(revision),
            **_plan(request, revision),
        }
    elif revision and tab == "masks":
        context |= masks_tab.page_of_masks(revision, request.GET.dict())
    elif revision and tab == "doctor":
        context |= _doctor(revision)
    elif revision:
        context |= _grid(request, revision)
    return render(request, "datasets/dataset.html", context)


def _chosen(revisions: list[Revision], number: str) -> Revision | None:
    """The revision that the address names by its number, else the newest; None in a dataset without any."""
    if not number:
        return revisions[0] if revisions else None
    for revision in revisions:
        if str(revision.number) == number:
            return revision
    raise Http404


def _grid(request: HttpRequest, revision: Revision) -> dict[str, Any]:
    filters = Filters.of(dict(request.GET.lists()))
    keep = {**pinned_revision(request), **filters.chosen}
    page = item_pages.page_of(revision, filters, given=request.GET.dict(), keep=keep)
    return {
        "page": page,
        "cells": [(item, *item_pages.split_file_name(item.name)) for item in page.items],
        "filters": filters,
        "choices": counts.counts(revision),
        "labels": counts.labels_offered(revision, filters),
        "groups": counts.groups_of(revision),
        "kept": urlencode(keep, doseq=True),
        "pinned": request.GET.get("revision", ""),
    }


def _pairs(request: HttpRequest, revision: Revision, made: list[Artifact]) -> dict[str, Any]:
    """Images beside their colours by the job that the address names, else by the newest."""
    asked = request.GET.get("run", "")
    run = next((each for each in made if str(each.pk) == asked), made[0] if made else None)
    filters = Filters.of(dict(request.GET.lists()))
    keep = {"tab": "colours", **pinned_revision(request), **filters.chosen} | ({"run": run.pk} if run else {})
    page = item_pages.page_of(revision, filters, given=request.GET.dict(), keep=keep)
    try:
        places = colorized.places_in(run, page.items) if run else []
    except FileNotFoundError:
        places = [None] * len(page.items)
    return {"page": page, "run": run, "cells": list(zip(page.items, places, strict=bool(run)))}


def _plan(request: HttpRequest, revision: Revision) -> dict[str, Any]:
    """The split that the address asks to be shown, or why there is none of this kind."""
    if not request.GET.get("rule"):
        return {"asked": SplitRequest()}
    asked = split_request(request.GET)
    try:
        return {"asked": asked, "plan": split_plan(revision.items, asked)}
    except EditRefused as refused:
        return {"asked": asked, "plan_refused": str(refused)}


def _doctor(revision: Revision) -> dict[str, Any]:
    return {
        "leaks": counts.leaks_of(revision),
        "choices_colour": revision.summary.get("problems", {}).get("colour", 0),
        "findings": doctor_tab.findings_of(revision),
        "twins": any(leak["kind"] == "alike" for leak in revision.summary.get("leaks", [])),
        "without_pixel_size": doctor_tab.without_pixel_size(revision),
        "mask_layers": doctor_tab.masks_of(revision),
    }


def _uploads(dataset: Dataset) -> dict[str, Any]:
    """What is on its way in, and what the last uploads brought."""
    since = timezone.now() - REPORTS_SHOWN_FOR
    return {
        "receiving": dataset.uploads.filter(state=Upload.State.RECEIVING, expires_at__gt=timezone.now(), offset__gt=0),
        "reading": upload_reports.uploads_reading(dataset),
        "reports": _reports(upload_reports.uploads_ended(dataset).filter(created_at__gt=since)[:REPORTS_SHOWN]),
    }


def _reports(uploads: Iterable[Upload]) -> list[upload_reports.UploadReport]:
    return [upload_reports.report_of(upload) for upload in uploads]
