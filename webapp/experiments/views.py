"""Pages of experiments: starting one, and its progress."""

from __future__ import annotations

from collections import Counter

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from ml_core.specs import SPECS, SpecError
from webapp.datasets.models import Dataset
from webapp.experiments import services
from webapp.experiments.models import Experiment
from webapp.jobs.models import State
from webapp.jobs.results.headline import headline
from webapp.projects.access import get_editable, get_visible, signed_in
from webapp.projects.models import Project


@require_POST
def experiment_new(request: HttpRequest, project_id: int) -> HttpResponse:
    user = signed_in(request)
    project = get_editable(Project.objects.all(), user, project="", pk=project_id)
    given = request.POST.get("dataset", "")
    dataset = get_visible(Dataset.objects.filter(project=project), user, pk=int(given) if given.isdecimal() else 0)
    revision = dataset.revisions.first()
    if revision is None:
        messages.error(request, f"{dataset.name} has no images yet. Add micrographs first.")
        return redirect("dataset", dataset.pk)
    try:
        made = services.experiment_start(
            project=project,
            user=user,
            protocol=request.POST.get("protocol", "pipeline"),
            preset=request.POST.get("preset", "quick"),
            revision=revision,
        )
    except SpecError as error:
        messages.error(request, " ".join(r.sentence for r in error.refusals))
        return redirect("dataset", dataset.pk)
    return redirect("experiment", made.pk)


@require_safe
def experiment(request: HttpRequest, experiment_id: int) -> HttpResponse:
    found = get_visible(Experiment.objects.select_related("project"), signed_in(request), pk=experiment_id)
    jobs = list(found.jobs.order_by("id").prefetch_related("after"))
    counts = Counter(job.state for job in jobs)
    context = {
        "project": found.project,
        "experiment": found,
        "rows": [(job, SPECS[job.kind].title, headline(job)) for job in jobs],
        "done": counts[State.DONE],
        "failed": counts[State.FAILED],
        "all": len(jobs),
        "protocol": services.PROTOCOLS.get(found.protocol, found.protocol),
    }
    return render(request, "experiments/experiment.html", context)
