"""Who may see and change what, at the one door to objects."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404

from webapp.datasets.models import Dataset
from webapp.projects.access import get_editable, get_visible, projects_of, role_in, visible
from webapp.projects.models import Project, Role, User


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return Dataset.objects.create(project=project, name="Lucchi")


def test_a_member_sees_what_belongs_to_the_project(vera: User, dataset: Dataset) -> None:
    assert get_visible(Dataset.objects.all(), vera, pk=dataset.pk) == dataset
    assert list(projects_of(vera)) == [dataset.project]


def test_a_stranger_gets_the_same_answer_as_for_nothing_at_all(charlie: User, dataset: Dataset) -> None:
    with pytest.raises(Http404):
        get_visible(Dataset.objects.all(), charlie, pk=dataset.pk)
    with pytest.raises(Http404):
        get_visible(Dataset.objects.all(), charlie, pk=dataset.pk + 1)
    assert not visible(Dataset.objects.all(), charlie).exists()
    assert role_in(charlie, dataset.project) is None


def test_an_owner_and_an_editor_may_change_it_and_a_viewer_may_not(
    alice: User, bob: User, vera: User, dataset: Dataset
) -> None:
    assert get_editable(Dataset.objects.all(), alice, pk=dataset.pk) == dataset
    assert get_editable(Dataset.objects.all(), bob, pk=dataset.pk) == dataset
    with pytest.raises(PermissionDenied, match="editor"):
        get_editable(Dataset.objects.all(), vera, pk=dataset.pk)


def test_a_project_itself_goes_through_the_same_door(bob: User, charlie: User, project: Project) -> None:
    assert get_editable(Project.objects.all(), bob, project="", pk=project.pk) == project
    assert role_in(bob, project) == Role.EDITOR
    with pytest.raises(Http404):
        get_visible(Project.objects.all(), charlie, project="", pk=project.pk)
