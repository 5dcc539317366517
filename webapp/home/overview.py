"""Data of the home and project pages: running and finished jobs, projects, suggested next steps."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Count, Exists, F, Max, OuterRef, QuerySet, When
from django.urls import reverse
from django.utils import timezone

from webapp.datasets.models import Dataset, Revision
from webapp.datasets.queries.counts import masked_images
from webapp.jobs.models import ENDED, OWNED, Job, State
from webapp.jobs.results.headline import Figure, headline
from webapp.projects.access import projects_of, visible
from webapp.projects.models import Project, Role, User

RECENT = datetime.timedelta(days=3)


@dataclass(frozen=True)
class NextStep:
    """One suggestion: a sentence and the button that does it."""

    sentence: str
    action: str
    address: str


def experiments_of(user: User) -> QuerySet[Job]:
    """The jobs that users submit; intake jobs, which read uploads, are left out of lists."""
    return visible(Job.objects.exclude(kind="intake"), user).select_related("project", "created_by")


def running_now(user: User) -> list[Job]:
    return list(experiments_of(user).filter(state__in=OWNED).order_by("started_at"))


def ended_lately(user: User) -> dict[str, Any]:
    """Number of jobs per final state since `RECENT`, and the newest few of them, failed ones first, to be noticed."""
    found = experiments_of(user).filter(state__in=ENDED, ended_at__gte=timezone.now() - RECENT)
    numbers = dict(found.order_by().values_list("state").annotate(Count("id")))
    ends = (State.FAILED, State.DONE, State.CANCELLED)
    counts = [{"state": end, "words": f"{numbers[end]:,} {end.label.lower()}"} for end in ends if end in numbers]
    failed_first = Case(When(state=State.FAILED, then=0), default=1)
    return {"counts": counts, "jobs": list(found.order_by(failed_first, "-ended_at")[:8])}


def projects_with_counts(user: User) -> list[dict[str, Any]]:
    """Each project with its numbers of images and jobs."""
    rows = []
    for project in projects_of(user):
        newest = newest_revisions(project.datasets.all())
        rows.append(
            {
                "project": project,
                "images": sum(r.items_count for r in newest.values()),
                "jobs": project.jobs.exclude(kind="intake").count(),
            }
        )
    return rows


def at_work_on(user: User) -> Project | None:
    """The project for the home page's buttons: of those that the user may edit, the one with the newest job."""
    editable = projects_of(user).filter(memberships__user=user, memberships__role__in=[Role.OWNER, Role.EDITOR])
    has_data = Exists(Revision.objects.filter(dataset__project=OuterRef("pk"), items_count__gt=0))
    return (
        editable.annotate(has_data=has_data, newest=Max("jobs__id")).order_by(F("newest").desc(nulls_last=True)).first()
    )


def newest_revisions(datasets: Iterable[Dataset]) -> dict[int, Revision]:
    """Dataset id -> its newest revision, for those that have one."""
    newest = Revision.objects.filter(dataset__in=[d.pk for d in datasets]).order_by("dataset_id", "-number")
    return {r.dataset_id: r for r in newest.distinct("dataset_id")}


def next_steps(projects: Iterable[Project]) -> list[NextStep]:
    """At most three suggestions, the most useful first."""
    found: list[NextStep] = []
    without_data: list[NextStep] = []
    for project in projects:
        datasets = list(project.datasets.all())
        newest = newest_revisions(datasets)
        if not newest:
            without_data.append(_bring_data(project, datasets))
            continue
        done = set(project.jobs.exclude(state__in=[State.FAILED, State.CANCELLED]).values_list("kind", flat=True))
        for dataset in datasets:
            revision = newest.get(dataset.pk)
            if revision:
                found += _about(project, dataset, revision, done)
    return [*found, *without_data][:3]


def _bring_data(project: Project, datasets: list[Dataset]) -> NextStep:
    if datasets:
        address = reverse("dataset", args=[datasets[0].pk])
        return NextStep(f"{datasets[0].name} in {project.name} is empty.", "Add micrographs", address)
    address = reverse("dataset-new", args=[project.pk])
    return NextStep(f"{project.name} has no data yet: masks pair by name.", "Add micrographs", address)


def _about(project: Project, dataset: Dataset, revision: Revision, done: set[str]) -> list[NextStep]:
    new = reverse("job-new", args=[project.pk]) + f"?dataset={dataset.pk}&kind="
    images = f"{dataset.name}: {revision.items_count:,} images"
    steps = []
    if "pretrain" not in done and "colorize" not in done:
        steps.append(NextStep(f"{images}, no encoder pretrained yet.", f"Colorize {dataset.name}", new + "colorize"))
    elif "pretrain" not in done:
        steps.append(NextStep(f"{images} in colour, no encoder yet.", f"Pretrain on {dataset.name}", new + "pretrain"))
    if masked_images(revision) and "segment" not in done:
        steps.append(NextStep(f"{images} with masks, no segmentation yet.", f"Segment {dataset.name}", new + "segment"))
    return steps


def best_so_far(project: Project) -> tuple[Job, Figure] | None:
    """The finished segmentation with the highest foreground IoU."""
    jobs = project.jobs.filter(kind="segment", state=State.DONE).select_related("created_by")
    scored = [(job, figure) for job in jobs if (figure := headline(job)) and figure.name == "foreground IoU"]
    return max(scored, key=lambda pair: pair[1].value, default=None)
