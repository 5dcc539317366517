"""Projects."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Router, Schema

from webapp.api.auth import asker
from webapp.projects.access import projects_of

router = Router(tags=["projects"])


class ProjectOut(Schema):
    id: int
    name: str
    description: str


@router.get("", response=list[ProjectOut])
def list_projects(request: HttpRequest) -> object:
    return projects_of(asker(request))
