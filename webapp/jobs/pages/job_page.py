"""The page of one job, its actions, and the images of its confusion matrix."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from ml_core.specs import SpecError
from webapp.datasets.queries.item_pages import split_file_name
from webapp.jobs import services
from webapp.jobs.inputs import revision_in
from webapp.jobs.models import Job
from webapp.jobs.pages.job_context import context_of
from webapp.jobs.results.predictions import answers_of, items_of
from webapp.projects.access import get_editable, get_visible, may_edit, signed_in

IMAGES = 60
"""Predictions per page."""


@require_safe
def job(request: HttpRequest, job_id: int) -> HttpResponse:
    user = signed_in(request)
    found = get_visible(Job.objects.select_related("project", "experiment", "created_by", "extends"), user, pk=job_id)
    editor = may_edit(user, found.project)
    context = context_of(found)
    context |= {"project": found.project, "may_edit": editor, "may": context["snapshot"]["may"] if editor else []}
    return render(request, "jobs/job.html", context)


@require_safe
def job_images(request: HttpRequest, job_id: int) -> HttpResponse:
    """The images of one cell of a confusion matrix, of a row or of a column."""
    found = get_visible(Job.objects.select_related("project", "experiment"), signed_in(request), pk=job_id)
    label, predicted = request.GET.get("label", ""), request.GET.get("predicted", "")
    page = Paginator(answers_of(found, label=label, predicted=predicted), IMAGES).get_page(request.GET.get("page"))
    revision = revision_in(found.inputs)
    items = items_of(revision, [answer.name for answer in page])
    asked = {"label": label, "predicted": predicted}
    context = {
        "project": found.project,
        "job": found,
        "label": label,
        "predicted": predicted,
        "page": page,
        "links": {
            "newer": urlencode({**asked, "page": page.number - 1}) if page.has_previous() else "",
            "older": urlencode({**asked, "page": page.number + 1}) if page.has_next() else "",
        },
        "revision": revision,
        "cells": [(answer, items.get(answer.name), *split_file_name(answer.name)) for answer in page],
    }
    return render(request, "jobs/images.html", context)


@require_POST
def job_action(request: HttpRequest, job_id: int, action: str) -> HttpResponse:
    user = signed_in(request)
    found = get_editable(Job.objects.all(), user, pk=job_id)
    if action == "extend":
        return _extend(request, found)
    if action not in services.ACTIONS:
        raise Http404
    if not services.ACTIONS[action](found, user=user):
        found.refresh_from_db(fields=["state"])
        state = found.get_state_display().lower()
        messages.error(request, f"The job is {state} by now, so there was nothing to {action}.")
    return redirect("job", found.pk)


def _extend(request: HttpRequest, found: Job) -> HttpResponse:
    try:
        epochs = int(request.POST.get("epochs", ""))
        made = services.job_extend(found, user=signed_in(request), epochs=epochs)
    except SpecError as error:
        messages.error(request, " ".join(r.sentence for r in error.refusals))
    except ValueError:
        messages.error(request, "Enter the number of epochs: a whole number, 1 or more.")
    else:
        return redirect("job", made.pk)
    return redirect("job", found.pk)
