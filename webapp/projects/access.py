"""The only door to objects: every view, socket and API route goes through one of these functions.

Who may not see an object gets the same 404 as for one that does not exist.
"""

from __future__ import annotations

from typing import TypeVar

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404

from webapp.projects.models import Membership, Project, Role, User

M = TypeVar("M", bound=Model)

_MAY_WRITE = {Role.OWNER, Role.EDITOR}


def projects_of(user: User) -> QuerySet[Project]:
    """The projects that `user` is a member of."""
    return Project.objects.filter(memberships__user=user)


def role_in(user: User, project: Project) -> Role | None:
    membership = Membership.objects.filter(project=project, user=user).first()
    return Role(membership.role) if membership else None


def visible(queryset: QuerySet[M], user: User, *, project: str = "project") -> QuerySet[M]:
    """`queryset` cut down to what `user` may see; `project` is the lookup from its model to the project."""
    lookup = f"{project}__memberships__user" if project else "memberships__user"
    return queryset.filter(**{lookup: user})


def get_visible(queryset: QuerySet[M], user: User, *, project: str = "project", **lookup: object) -> M:
    """The one object that matches, if `user` may see it; else Http404."""
    found = visible(queryset, user, project=project).filter(**lookup).first()
    if found is None:
        raise Http404
    return found


def get_editable(queryset: QuerySet[M], user: User, *, project: str = "project", **lookup: object) -> M:
    """As `get_visible`; a member who may only look gets PermissionDenied."""
    found = get_visible(queryset, user, project=project, **lookup)
    owner: object = found
    for name in project.split("__") if project else []:
        owner = getattr(owner, name)
    assert isinstance(owner, Project)
    if role_in(user, owner) not in _MAY_WRITE:
        raise PermissionDenied("You are a viewer of this project. Ask its owner to make you an editor.")
    return found
