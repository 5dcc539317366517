"""The page of the queue, and moving jobs in it."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from webapp.jobs.lifecycle import queue_order
from webapp.jobs.models import Job
from webapp.jobs.pages import queue_context
from webapp.projects.access import get_administered, signed_in


@require_safe
def queue_page(request: HttpRequest) -> HttpResponse:
    return _queue(request)


@require_POST
def job_move(request: HttpRequest, job_id: int) -> HttpResponse:
    """Moves a job one position up or down, or to the front; responds with the updated queue."""
    user = signed_in(request)
    found = get_administered(Job.objects.all(), user, pk=job_id)
    where = request.POST.get("where")
    if where not in queue_order.WHERE:
        raise Http404
    try:
        queue_order.job_move(found, user=user, where=where)
    except queue_order.MoveRefused as refused:
        return _queue(request, refused=str(refused), status=422)
    return redirect(reverse("queue") + _filters(request).query)


def _queue(request: HttpRequest, *, refused: str = "", status: int = 200) -> HttpResponse:
    context = queue_context.queue_of(signed_in(request), _filters(request))
    return render(request, "jobs/queue.html", {**context, "refused": refused}, status=status)


def _filters(request: HttpRequest) -> queue_context.Filters:
    return queue_context.Filters(device=request.GET.get("device", ""), whose=request.GET.get("whose", ""))
