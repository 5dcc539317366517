"""Access control: every view, socket and API route gets its objects through one of these functions.

A user without access to an object gets the same 404 as for one that does not exist.
"""

from __future__ import annotations

from typing import TypeVar, cast

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest

from webapp.projects.models import Membership, Project, Role, User

M = TypeVar("M", bound=Model)

_MAY_WRITE = {Role.OWNER, Role.EDITOR}


def signed_in(request: HttpRequest) -> User:
    """The user of a request that LoginRequiredMiddleware let through."""
    return cast(User, request.user)


def projects_of(user: User) -> QuerySet[Project]:
    """The projects that `user` is a member of."""
    return Project.objects.filter(memberships__user=user)


def role_in(user: User, project: Project) -> Role | None:
    membership = Membership.objects.filter(project=project, user=user).first()
    return Role(membership.role) if membership else None


def may_edit(user: User, project: Project) -> bool:
    """Whether to offer a change; the change itself is checked by `get_editable`."""
    return role_in(user, project) in _MAY_WRITE


def projects_edited_by(user: User) -> QuerySet[Project]:
    """The projects that `user` may edit."""
    return Project.objects.filter(memberships__user=user, memberships__role__in=_MAY_WRITE)


def is_administrator(user: User) -> bool:
    """Whether `user` administers the server: may order its queue, but not see other people's data."""
    return user.is_active and user.is_superuser


def visible(queryset: QuerySet[M], user: User, *, project: str = "project") -> QuerySet[M]:
    """`queryset` filtered to what `user` may see; `project` is the lookup from its model to the project."""
    lookup = f"{project}__memberships__user" if project else "memberships__user"
    return queryset.filter(**{lookup: user})


def get_visible(queryset: QuerySet[M], user: User, *, project: str = "project", **lookup: object) -> M:
    """The one object that matches, if `user` may see it; else raises Http404."""
    found = visible(queryset, user, project=project).filter(**lookup).first()
    if found is None:
        raise Http404
    return found


def get_editable(queryset: QuerySet[M], user: User, *, project: str = "project", **lookup: object) -> M:
    """As `get_visible`; for a member with read access only it raises PermissionDenied."""
    found = get_visible(queryset, user, project=project, **lookup)
    owner: object = found
    for name in project.split("__") if project else []:
        owner = getattr(owner, name)
    assert isinstance(owner, Project)
    if not may_edit(user, owner):
        raise PermissionDenied("You are a viewer of this project. Ask its owner to make you an editor.")
    return found


def get_administered(queryset: QuerySet[M], user: User, *, pk: int) -> M:
    """As `get_editable`; an administrator gets any object, for changes that reveal nothing of its content."""
    if not is_administrator(user):
        return get_editable(queryset, user, pk=pk)
    found = queryset.filter(pk=pk).first()
    if found is None:
        raise Http404
    return found
