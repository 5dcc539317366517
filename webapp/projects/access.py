"""The only door to objects: every view, socket and API route goes through one of these functions.

Who may not see an object gets the same 404 as for one that does not exist.
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
    """The person behind a request that LoginRequiredMiddleware let through."""
    return cast(User, request.user)


def projects_of(user: User) -> QuerySet[Project]:
    """The projects that `user` is a member of."""
    return Project.objects.filter(memberships__user=user)


def role_in(user: User, project: Project) -> Role | None:
    membership = Membership.objects.filter(project=project, user=user).first()
    return Role(membership.role) if membership else None


def may_edit(user: User, project: Project) -> bool:
    """Whether to offer a change; the change itself goes through `get_editable`."""
    return role_in(user, project) in _MAY_WRITE


def projects_edited_by(user: User) -> QuerySet[Project]:
    """The projects that `user` may change."""
    return Project.objects.filter(memberships__user=user, memberships__role__in=_MAY_WRITE)


def is_administrator(user: User) -> bool:
    """Whether `user` looks after the server: its queue is theirs to order, other people's data is not theirs to see."""
    return user.is_active and user.is_superuser


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
    if not may_edit(user, owner):
        raise PermissionDenied("You are a viewer of this project. Ask its owner to make you an editor.")
    return found


def get_administered(queryset: QuerySet[M], user: User, *, pk: int) -> M:
    """As `get_editable`; an administrator gets any object, for a change that shows nothing of what is in it."""
    if not is_administrator(user):
        return get_editable(queryset, user, pk=pk)
    found = queryset.filter(pk=pk).first()
    if found is None:
        raise Http404
    return found
