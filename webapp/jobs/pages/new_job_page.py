"""The page of a new job: its form, and the preflight estimates beside it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from ml_core.specs import SPECS, SpecError
from webapp.jobs import services
from webapp.jobs.estimates.preflight import preflight
from webapp.jobs.forms.job_form import KINDS, JobForm, form_data, sent
from webapp.jobs.inputs import values_refused
from webapp.jobs.models import Job
from webapp.projects.access import get_editable, get_visible, signed_in
from webapp.projects.models import Project


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
    """The preflight panel beside the form, rendered again on each change."""
    project = get_editable(Project.objects.all(), signed_in(request), project="", pk=project_id)
    form = JobForm(
        project=project,
        kind=request.POST.get("kind", ""),
        preset=request.POST.get("preset", ""),
        data=sent(request.POST),
    )
    return render(request, "jobs/preflight.html", {"form": form, "preflight": _preflight(form)})
