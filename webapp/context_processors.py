"""What the frame of every page shows: theme, menu, counts of jobs, warnings that concern the whole server."""

from __future__ import annotations

from functools import cached_property

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest

from webapp import template_tags
from webapp.jobs.models import OWNED, Job, State
from webapp.projects.access import projects_of, visible
from webapp.projects.models import Project

_AHEAD = (State.WAITING, State.QUEUED)


class Frame:
    """Asked by `base.html` only, piece by piece, so a page fragment costs none of its queries."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @property
    def theme(self) -> str:
        """`light`, `dark`, or empty to follow the system. From a cookie, so that the first paint is right."""
        chosen = self._request.COOKIES.get("theme", "")
        return chosen if chosen in {"light", "dark"} else ""

    @property
    def plain_http(self) -> bool:
        return settings.PLAIN_HTTP_WARNING

    @property
    def built(self) -> bool:
        """Whether the scripts and style sheets are there."""
        return "frame.ts" in template_tags.manifest()

    @cached_property
    def projects(self) -> list[Project]:
        user = self._request.user
        return list(projects_of(user)) if user.is_authenticated else []

    @cached_property
    def _counts(self) -> dict[str, int]:
        user = self._request.user
        if not user.is_authenticated:
            return {}
        rows = visible(Job.objects.order_by(), user).values_list("state").annotate(Count("id"))
        return dict(rows.filter(state__in=[*OWNED, *_AHEAD]))

    @property
    def running(self) -> int:
        return sum(self._counts.get(state, 0) for state in OWNED)

    @property
    def ahead(self) -> int:
        return sum(self._counts.get(state, 0) for state in _AHEAD)


def frame(request: HttpRequest) -> dict[str, Frame]:
    """The context processor."""
    return {"frame": Frame(request)}
