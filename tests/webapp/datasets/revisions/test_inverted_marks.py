"""Images with bright and dark exchanged: named by the doctor, turned by one click, and none of the others is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml_core.data import synthetic
from tests.webapp.datasets.intake.test_commit import newest, upload
from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from webapp.datasets import services
from webapp.datasets.intake import services as intake_services
from webapp.datasets.models import Dataset
from webapp.datasets.queries.filters import Filters
from webapp.datasets.revisions import dataset_edits, item_edits
from webapp.datasets.revisions.draft import Selection
from webapp.projects.models import Project, User

__all__ = ["seen_by"]

pytestmark = pytest.mark.django_db

TURNED = {3, 8}


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


def stack(*numbers: int, turned: set[int] = TURNED) -> dict[str, object]:
    def slice_of(number: int) -> np.ndarray:
        grey, _ = synthetic.micrograph(number, size=96)
        return 255 - grey if number in turned else grey

    return {f"z_{number:03d}.png": slice_of(number) for number in numbers}


def called(dataset: Dataset) -> list[int]:
    found = Filters(problem="inverted").apply(newest(dataset).items)
    return [int(name[2:5]) for name in found.order_by("position").values_list("name", flat=True)]


def test_the_doctor_names_them_with_evidence_and_one_click_turns_them(
    seen_by: Seen, dataset: Dataset, alice: User, bob: User, tmp_path: Path
) -> None:
    upload(dataset, stack(*range(14)), user=alice, folder=tmp_path)
    assert called(dataset) == sorted(TURNED)
    client = seen_by(bob)
    page = client.get(f"/datasets/{dataset.pk}/?tab=doctor").content.decode()
    assert "Images that look inverted beside the others" in page
    assert "among the 13 other images of the stack z." in page
    assert '<button name="do" value="invert">Invert all</button>' in page
    fields = {"do": "invert", "all": "1", "filter-problem": "inverted", "base": 1}
    page = client.post(f"/datasets/{dataset.pk}/edit/", fields, follow=True).content.decode()
    assert "2 images inverted. This is revision 2 now." in page
    assert called(dataset) == []
    assert newest(dataset).summary["problems"] == {}
    turned = newest(dataset).items.filter(low__gt=0, low__gte=100)
    assert {int(item.name[2:5]) for item in turned if item.low > item.high} == TURNED
    assert newest(dataset).items.count() == 14


def test_what_was_turned_by_mistake_is_named_until_it_is_turned_back(
    dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    upload(dataset, stack(*range(14), turned=set()), user=alice, folder=tmp_path)
    assert called(dataset) == []
    wrong = Selection(ids=[newest(dataset).items.get(name="z_005.png").pk])
    item_edits.items_invert(dataset, selection=wrong, base=1, user=alice)
    assert called(dataset) == [5]
    wrong = Selection(filters=Filters(problem="inverted"))
    item_edits.items_invert(dataset, selection=wrong, base=2, user=alice)
    assert called(dataset) == []
    assert newest(dataset).manifest == dataset.revisions.get(number=1).manifest


def test_a_few_that_came_first_are_named_once_the_others_are_there(
    dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    upload(dataset, stack(3, 8), user=alice, folder=tmp_path)
    assert called(dataset) == []
    upload(dataset, stack(*(n for n in range(14) if n not in TURNED)), user=alice, folder=tmp_path)
    assert called(dataset) == sorted(TURNED)
    most = Selection(ids=[item.pk for item in newest(dataset).items if int(item.name[2:5]) not in TURNED])
    item_edits.items_remove(dataset, selection=most, base=2, user=alice)
    assert called(dataset) == [], "there is nothing left beside which they look inverted"


def test_photographs_have_no_polarity(dataset: Dataset, alice: User, tmp_path: Path) -> None:
    upload(dataset, stack(*range(14)), user=alice, folder=tmp_path)
    dataset_edits.dataset_set_content(dataset, kind="photographs", base=1, user=alice)
    assert called(dataset) == []
    upload(dataset, stack(14), user=alice, folder=tmp_path)
    assert called(dataset) == []
    dataset_edits.dataset_set_content(dataset, kind="micrographs", base=3, user=alice)
    assert called(dataset) == sorted(TURNED)


@pytest.mark.slow
def test_of_real_micrographs_none_is_called_inverted_but_those_that_were(
    project: Project, real_data: Path, tmp_path: Path
) -> None:
    folders = ("lucchi", "isbi2012_mito", "cem500k_examples", "fly_medulla_fibsem")
    for folder in folders:
        dataset = intake_services.dataset_from_folder(project=project, name=folder, folder=real_data / folder)
        assert "inverted" not in newest(dataset).summary["problems"], folder
    shutil.copytree(real_data / "isbi2012_mito" / "images", tmp_path / "images")
    names = sorted(path.name for path in (tmp_path / "images").iterdir())[4:30:9]
    for name in names:
        (tmp_path / "images" / name).chmod(0o644)
        grey = np.asarray(Image.open(tmp_path / "images" / name).convert("L"))
        Image.fromarray(255 - grey).save(tmp_path / "images" / name)
    dataset = intake_services.dataset_from_folder(project=project, name="turned", folder=tmp_path)
    found = Filters(problem="inverted").apply(newest(dataset).items)
    assert sorted(item.name.rpartition("/")[2] for item in found) == names
