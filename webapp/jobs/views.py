"""Pages of jobs: the job itself, the form of a new one, the queue."""

from __future__ import annotations

import math
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from ml_core.specs import SPECS, SpecError, differences, fields_of, load_spec
from webapp.datasets.models import Revision
from webapp.jobs import queue, services
from webapp.jobs.figures import headline
from webapp.jobs.forms import KINDS, JobForm, form_data, sent
from webapp.jobs.models import Job
from webapp.jobs.preflight import preflight
from webapp.jobs.results import result_rows, worst_images
from webapp.projects.access import get_editable, get_visible, may_edit, signed_in
from webapp.projects.models import Project

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
    snapshot = services.snapshot(found)
    editor = may_edit(user, found.project)
    context = {
        "project": found.project,
        "job": found,
        "snapshot": snapshot,
        "may": snapshot["may"] if editor else [],
        "may_edit": editor,
        "figure": headline(found),
        "results": result_rows(found),
        "worst": worst_images(found),
        "inputs": _inputs(found),
        "followers": found.followers.all(),
        "spec_rows": _spec_rows(found),
        "files": found.artifacts.exclude(media_type__startswith="image/").order_by("-id")[:50],
        "page": {
            "id": found.pk,
            "caption": _caption(found),
            "snapshot": snapshot,
            "references": _references(found),
        },
    }
    return render(request, "jobs/job.html", context)


def _inputs(job: Job) -> list[dict[str, Any]]:
    """The job's inputs as rows: slot, what was taken, where it is to be seen."""
    rows = []
    for slot, reference in job.inputs.items():
        if "revision" in reference:
            revision = Revision.objects.select_related("dataset").filter(pk=reference["revision"]).first()
            rows.append({"slot": slot, "revision": revision})
        elif "job" in reference:
            rows.append({"slot": slot, "job": Job.objects.filter(pk=reference["job"]).first()})
        else:
            rows.append({"slot": slot, "upload": str(reference.get("upload", ""))})
    return rows


def _spec_rows(job: Job) -> list[dict[str, Any]]:
    """Every field of the specification with its value, and the preset's where it differs."""
    try:
        spec = load_spec(job.spec)
    except SpecError:
        return [{"label": name, "value": value} for name, value in job.spec.items()]
    changed = differences(spec)
    rows = []
    for info in fields_of(job.kind):
        value, labels = getattr(spec, info.name), dict(info.choices)
        row = {"label": info.label, "unit": info.unit, "value": labels.get(str(value), value)}
        if info.name in changed:
            row["preset_value"] = labels.get(str(changed[info.name][0]), changed[info.name][0])
        rows.append(row)
    return rows


def _caption(job: Job) -> str:
    """Written into exported figures: job, revision, preset."""
    revision = (
        Revision.objects.select_related("dataset").filter(pk=job.inputs.get("dataset", {}).get("revision")).first()
    )
    data = f" · {revision.dataset.name} rev {revision.short_name}" if revision else ""
    return f"#{job.pk} {job.name}{data} · preset {job.spec.get('preset', 'own')}"


def _references(job: Job) -> list[dict[str, object]]:
    """Dashed lines of the charts: what a figure would be if nothing were learnt, or what is healthy."""
    found: list[dict[str, object]] = []
    if isinstance(size := job.spec.get("projection_size"), int) and size > 0:
        found.append({"quantity": "embedding_std", "value": 1 / math.sqrt(size), "label": f"healthy, 1/√{size}"})
    if isinstance(floor := job.results.get("floor"), int | float):
        found.append({"quantity": "mean_iou", "value": floor, "label": "predict nothing"})
    return found


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
        after = (
            [get_visible(Job.objects.filter(project=project), user, pk=form.after_value)] if form.after_value else []
        )
        try:
            made = services.job_submit(
                project=project, user=user, spec=spec, inputs=form.inputs(), name=form.name.strip(), after=after
            )
            return redirect("job", made.pk)
        except SpecError as error:
            form.slot_refusals = error.refusals
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
        return {"refusals": error.refusals}
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
    return render(request, "jobs/queue.html", queue.queue_of(signed_in(request)))
