"""Pages of jobs: the job itself, the form of a new one, the queue."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from ml_core.specs import SPECS, SpecError
from webapp.datasets.queries.item_pages import halves
from webapp.jobs import services
from webapp.jobs.estimates.preflight import preflight
from webapp.jobs.forms.job_form import KINDS, JobForm, form_data, sent
from webapp.jobs.inputs import revision_in, values_refused
from webapp.jobs.lifecycle import queue_order as order
from webapp.jobs.models import Job
from webapp.jobs.pages import queue_context as queue
from webapp.jobs.pages.job_context import context_of
from webapp.jobs.results.predictions import answers_of, items_of
from webapp.projects.access import get_administered, get_editable, get_visible, may_edit, signed_in
from webapp.projects.models import Project

IMAGES = 60
"""Of a page of answers."""
ACTIONS = {
    "cancel": services.job_cancel,
    "pause": services.job_pause,
    "resume": services.job_resume,
    "retry": services.job_retry,
}


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
        "cells": [(answer, items.get(answer.name), *halves(answer.name)) for answer in page],
    }
    return render(request, "jobs/images.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def job_new(request: HttpRequest, project_id: int) -> HttpResponse:
    user = signed_in(request)
    project = get_editable(Project.objects.all(), user, project="", pk=project_id)
    if request.method != "POST":
        form = _empty_form(request, project)
        return render(request, "jobs/new.html", _form_context(form))
    form = JobForm(
        project=project,
        kind=request.POST.get("kind", ""),
        preset=request.POST.get("preset", ""),
        data=sent(request.POST),
    )
    spec = form.check()
    if spec is not None:
        before = form.after_value
        among = Job.objects.filter(project=project)
        after = [get_visible(among, user, pk=int(before) if before.isdecimal() else 0)] if before else []
        try:
            made = services.job_submit(
                project=project, user=user, spec=spec, inputs=form.inputs(), name=form.name.strip(), after=after
            )
            return redirect("job", made.pk)
        except SpecError as error:
            form.refuse(error)
    return render(request, "jobs/new.html", _form_context(form), status=422)


def _empty_form(request: HttpRequest, project: Project) -> JobForm:
    asked = request.GET
    if (clone := asked.get("clone", "")).isdecimal():
        original = get_visible(Job.objects.filter(project=project), signed_in(request), pk=clone)
        data = form_data(original.spec, original.inputs)
        return JobForm(project=project, kind=original.kind, preset=original.spec.get("preset", ""), data=data)
    dataset = asked.get("dataset", "")
    return JobForm(
        project=project,
        kind=asked.get("kind", ""),
        preset=asked.get("preset", ""),
        dataset=int(dataset) if dataset.isdecimal() else None,
    )


def _form_context(form: JobForm) -> dict[str, Any]:
    return {
        "project": form.project,
        "form": form,
        "kinds": [(kind, SPECS[kind].title) for kind in KINDS],
        "preflight": _preflight(form),
        "presets": dict(form.presets),
    }


def _preflight(form: JobForm) -> object:
    try:
        spec = form.spec()
    except SpecError as error:
        return {"refusals": form.labelled(error.refusals)}
    if refused := values_refused(spec, form.inputs()):
        return {"refusals": form.labelled(refused)}
    return preflight(spec, project=form.project, revision=form.revision(), inputs=form.inputs())


@require_POST
def job_preflight(request: HttpRequest, project_id: int) -> HttpResponse:
    """What the form's side says, on each change."""
    project = get_editable(Project.objects.all(), signed_in(request), project="", pk=project_id)
    form = JobForm(
        project=project,
        kind=request.POST.get("kind", ""),
        preset=request.POST.get("preset", ""),
        data=sent(request.POST),
    )
    return render(request, "jobs/preflight.html", {"form": form, "preflight": _preflight(form)})


@require_POST
def job_action(request: HttpRequest, job_id: int, action: str) -> HttpResponse:
    user = signed_in(request)
    found = get_editable(Job.objects.all(), user, pk=job_id)
    if action == "extend":
        return _extend(request, found)
    if action not in ACTIONS:
        raise Http404
    if not ACTIONS[action](found, user=user):
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
        messages.error(request, "Say by how many epochs: a whole number, 1 or more.")
    else:
        return redirect("job", made.pk)
    return redirect("job", found.pk)


@require_safe
def queue_page(request: HttpRequest) -> HttpResponse:
    return _queue(request)


@require_POST
def job_move(request: HttpRequest, job_id: int) -> HttpResponse:
    """One place up or down in the queue, or to the front; the answer is the queue as it then is."""
    user = signed_in(request)
    found = get_administered(Job.objects.all(), user, pk=job_id)
    where = request.POST.get("where")
    if where not in order.WHERE:
        raise Http404
    try:
        order.job_move(found, user=user, where=where)
    except order.MoveRefused as refused:
        return _queue(request, refused=str(refused), status=422)
    return redirect(reverse("queue") + _filters(request).query)


def _queue(request: HttpRequest, *, refused: str = "", status: int = 200) -> HttpResponse:
    context = queue.queue_of(signed_in(request), _filters(request))
    return render(request, "jobs/queue.html", {**context, "refused": refused}, status=status)


def _filters(request: HttpRequest) -> queue.Filters:
    return queue.Filters(device=request.GET.get("device", ""), whose=request.GET.get("whose", ""))
