"""Colour photographs as a kind of dataset: no problem of colour, shown in colour, and for a colorizer only."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.test import Client
from PIL import Image

from ml_core.specs import SPECS, from_preset
from tests.webapp.datasets.intake.test_commit import upload
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset
from webapp.datasets.revisions import dataset_edits
from webapp.datasets.services import dataset_create
from webapp.jobs.forms.input_choices import options_for
from webapp.jobs.inputs import check_inputs
from webapp.projects.models import Project, User

pytestmark = pytest.mark.django_db

RNG = np.random.default_rng(3)
GREEN = np.zeros((40, 60, 3), np.uint8) + np.array([20, 180, 60], np.uint8)
GREY = RNG.integers(0, 255, (40, 60), dtype=np.uint8)


def made(project: Project, user: User, folder: Path, *, kind: str, name: str = "Photos") -> Dataset:
    dataset = dataset_create(project=project, user=user, name=name, kind=kind)
    green = GREEN + RNG.integers(0, 40, GREEN.shape, dtype=np.uint8)
    upload(dataset, {"a.png": green, "b.png": GREY}, user=user, folder=folder)
    return dataset


def kinds_of_problems(dataset: Dataset, name: str) -> list[str]:
    return [each["kind"] for each in dataset.all_items.get(name=name, removed_in=None).problems]


def test_colour_is_a_problem_of_micrographs_and_none_of_photographs(
    project: Project, alice: User, tmp_path: Path
) -> None:
    assert kinds_of_problems(made(project, alice, tmp_path, kind="photographs"), "a.png") == []
    dataset = made(project, alice, tmp_path, kind="micrographs", name="Mixed")
    assert kinds_of_problems(dataset, "a.png") == ["colour"]
    second = dataset_edits.dataset_set_content(dataset, kind="photographs", base=1, user=alice)
    assert (second.number, second.summary["problems"]) == (2, {})
    assert (kinds_of_problems(dataset, "a.png"), second.items.count()) == ([], 2)
    third = dataset_edits.dataset_set_content(dataset, kind="micrographs", base=2, user=alice)
    assert third.summary["problems"] == {"colour": 1}
    with pytest.raises(EditRefused, match="holds micrographs already"):
        dataset_edits.dataset_set_content(dataset, kind="micrographs", base=3, user=alice)
    with pytest.raises(EditRefused, match="Choose micrographs or colour photographs"):
        dataset_edits.dataset_set_content(dataset, kind="films", base=3, user=alice)


def test_photographs_are_shown_in_colour_and_micrographs_in_grey(
    client: Client, project: Project, alice: User, tmp_path: Path
) -> None:
    dataset = made(project, alice, tmp_path, kind="photographs")
    client.force_login(alice)

    def picture(name: str) -> Image.Image:
        item = dataset.all_items.get(name=name, removed_in=None)
        return Image.open(io.BytesIO(client.get(f"/items/{item.pk}/image.png").content))

    shown = np.asarray(picture("a.png")).reshape(-1, 3).mean(axis=0)
    assert shown[1] > shown[0] + 100
    assert picture("b.png").mode == "L"
    with default_storage.open(dataset.all_items.get(name="a.png").thumbnail) as file:
        small = np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3).mean(axis=0)
    assert small[1] > small[0] + 100
    dataset_edits.dataset_set_content(dataset, kind="micrographs", base=1, user=alice)
    assert picture("a.png").mode == "L"


def test_a_colorizer_is_offered_photographs_first_and_all_else_refuses_them(
    project: Project, alice: User, tmp_path: Path
) -> None:
    photographs = made(project, alice, tmp_path, kind="photographs").revisions.get()
    micrographs = made(project, alice, tmp_path, kind="micrographs", name="Grey").revisions.get()
    offered = {
        kind: [option.revision for option in options_for(project, slot)]
        for kind in ("train_colorizer", "segment", "pretrain")
        for slot in SPECS[kind].inputs
        if slot.takes == "revision"
    }
    assert offered["train_colorizer"] == [photographs.pk, micrographs.pk]
    assert offered["segment"] == offered["pretrain"] == [micrographs.pk]
    inputs = {"dataset": {"revision": photographs.pk}}
    [refusal] = check_inputs(from_preset("colorize", "quick"), inputs, project=project)
    assert refusal.sentence == (
        "Photos holds colour photographs, from which only a colorizer learns. Choose micrographs."
    )
    assert check_inputs(from_preset("train_colorizer", "quick"), inputs, project=project) == []


def test_the_kind_is_chosen_at_the_beginning_or_by_a_click_in_the_doctor(
    client: Client, project: Project, bob: User, vera: User, charlie: User, tmp_path: Path
) -> None:
    client.force_login(bob)
    client.post(f"/projects/{project.pk}/datasets/new/", {"name": "Market", "kind": "photographs"})
    assert Dataset.objects.get(name="Market").kind == "photographs"
    assert client.post(f"/projects/{project.pk}/datasets/new/", {"name": "X", "kind": "films"}).status_code == 422
    dataset = made(project, bob, tmp_path, kind="micrographs")
    doctor = client.get(f"/datasets/{dataset.pk}/?tab=doctor").content.decode()
    assert "Are these photographs?" in doctor
    address = f"/datasets/{dataset.pk}/kind/"
    for user, status in ((vera, 403), (charlie, 404), (bob, 302)):
        client.force_login(user)
        assert client.post(address, {"kind": "photographs", "base": "1"}).status_code == status
    dataset.refresh_from_db()
    assert dataset.kind == "photographs"
    assert "These are micrographs" in client.get(f"/datasets/{dataset.pk}/?tab=doctor").content.decode()
