"""Colorized pairs: a colorize job's colours beside the grey images that it was given, and as a layer over each."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from django.core.files.storage import default_storage
from django.utils import timezone
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from ml_core.data.manifests.manifest import read
from ml_core.imaging.lab import coloured
from ml_core.imaging.tensor_lab import lab_to_rgb, lightness_of_grey
from ml_core.runtime import weights
from tests.webapp.datasets.intake.test_commit import upload
from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by, viewer_data
from webapp.datasets.models import Dataset
from webapp.datasets.services import dataset_create
from webapp.jobs.models import Artifact, Event, Job, Queue, State
from webapp.projects.models import Membership, Project, Role, User

__all__ = ["seen_by"]

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

RANDOM = np.random.default_rng(8)
IMAGES = {f"images/{n}.png": RANDOM.integers(0, 255, (40, 24 + 8 * n), dtype=np.uint8) for n in range(4)}
PLANES = RANDOM.integers(60, 200, (len(IMAGES), 2, 8, 8), dtype=np.uint8)


@pytest.fixture
def dataset(project: Project, alice: User, tmp_path: Path) -> Dataset:
    made = dataset_create(project=project, user=alice, name="Lucchi")
    upload(made, IMAGES, user=alice, folder=tmp_path)
    return made


def colorized(
    dataset: Dataset, folder: Path, *, project: Project | None = None, origin: str = "structured"
) -> Artifact:
    """What a colorize job of the dataset's first revision leaves."""
    manifest = dataset.revisions.get(number=1).manifest
    facts = {"origin": origin, "size": 8, "manifest": manifest}
    sha256 = weights.save(folder / "colour.safetensors", {"ab": torch.from_numpy(PLANES)}, facts=facts)
    default_storage.put_file(folder / "colour.safetensors", sha256)  # type: ignore[attr-defined]
    job = Job.objects.create(
        project=project or dataset.project, kind="colorize", name="Colours", spec={}, queue=Queue.DEVICE,
        state=State.DONE,
    )  # fmt: skip
    event = Event.objects.create(job=job, epoch=1, kind="artifact", time=timezone.now())
    return Artifact.objects.create(
        job=job, event=event, kind="colour", name="colour.safetensors", sha256=sha256, size=1, epoch=1,
        media_type="application/octet-stream", facts=facts,
    )  # fmt: skip


def by_torch(grey: NDArray[np.uint8], planes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """As the job itself shows its pairs."""
    ab = functional.interpolate(torch.from_numpy(planes)[None].float() - 128, size=grey.shape, mode="bilinear")
    light = lightness_of_grey(torch.from_numpy(grey)[None, None].float() / 255)
    rgb = lab_to_rgb(torch.cat([light, ab], dim=1))[0]
    return (255 * rgb).permute(1, 2, 0).double().numpy()


def test_colours_are_put_over_grey_as_the_colorizer_itself_does() -> None:
    grey = RANDOM.integers(0, 255, (300, 200), dtype=np.uint8)
    for planes in (*PLANES, np.full((2, 4, 4), 128, np.uint8)):
        assert np.abs(coloured(grey, planes) - by_torch(grey, planes)).max() < 1.5
    assert np.ptp(coloured(grey, np.full((2, 4, 4), 128, np.uint8)).astype(int), axis=2).max() <= 2


def test_the_dataset_shows_each_image_beside_its_colours_and_says_whose_they_are(
    seen_by: Seen, dataset: Dataset, alice: User, charlie: User, tmp_path: Path
) -> None:
    address = f"/datasets/{dataset.pk}/"
    client = seen_by(alice)
    assert "Colorized pairs" not in client.get(address).content.decode()
    assert "No colorize job has run" in client.get(f"{address}?tab=colours").content.decode()
    first = colorized(dataset, tmp_path, origin="structured")
    second = colorized(dataset, tmp_path, origin="eccv16")
    assert "Colorized pairs" in client.get(address).content.decode()
    page = client.get(f"{address}?tab=colours").content.decode()
    assert f"#{second.job_id} eccv16" in page
    pictures = re.findall(r'src="(/items/\d+/colours/\d+\.png\?small=1)"', page)
    assert len(pictures) == len(IMAGES)
    for picture, planes, grey in zip(pictures, PLANES, IMAGES.values(), strict=True):
        shown = np.asarray(Image.open(io.BytesIO(client.get(picture).content))).astype(float)
        # A thumbnail is a WebP: nearly the grey that it was made of.
        assert np.abs(shown - by_torch(grey, planes)).mean() < 12
        assert seen_by(charlie).get(picture).status_code == 404
    older = client.get(f"{address}?tab=colours&run={first.pk}").content.decode()
    assert f"/colours/{first.pk}.png" in older
    assert "Colorizer structured" in older


def test_an_image_that_came_later_is_beside_none_and_one_that_was_edited_keeps_its_colours(
    seen_by: Seen, dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    made = colorized(dataset, tmp_path)
    names = [item.name for item in read(Path(default_storage.path(dataset.revisions.get().manifest))).items]
    upload(dataset, {"images/00.png": 255 - IMAGES["images/1.png"]}, user=alice, folder=tmp_path)
    client = seen_by(alice)
    item = dataset.revisions.first().items.get(name="images/2.png")
    item.pk, item.added_in, item.position = None, 2, item.position + 1
    item.save()
    page = client.get(f"/datasets/{dataset.pk}/?tab=colours").content.decode()
    assert page.count("not in this job") == 1
    answer = client.get(f"/items/{item.pk}/colours/{made.pk}.png")
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    expected = by_torch(IMAGES["images/2.png"], PLANES[names.index("images/2.png")])
    assert np.abs(shown - expected).max() < 1.5
    new = dataset.revisions.first().items.get(name="images/00.png")
    assert client.get(f"/items/{new.pk}/colours/{made.pk}.png").status_code == 404


def test_the_viewer_offers_colours_as_a_layer_and_none_of_another_project(
    seen_by: Seen, dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    elsewhere = Project.objects.create(name="Elsewhere")
    Membership.objects.create(project=elsewhere, user=alice, role=Role.OWNER)
    item = dataset.all_items.first()
    assert item is not None
    client = seen_by(alice)
    other = colorized(dataset, tmp_path, project=elsewhere)
    assert viewer_data(client, item)["colours"] == []
    assert client.get(f"/items/{item.pk}/colours/{other.pk}.png").status_code == 404
    made = colorized(dataset, tmp_path)
    [offered] = viewer_data(client, item)["colours"]
    assert offered["id"] == made.pk
    assert client.get(offered["url"]).status_code == 200
    Path(default_storage.path(made.sha256)).unlink()
    assert client.get(offered["url"]).status_code == 404


def test_pairs_have_pages_as_the_grid_has(seen_by: Seen, project: Project, alice: User, tmp_path: Path) -> None:
    many = dataset_create(project=project, user=alice, name="Many")
    greys = RANDOM.integers(0, 255, (70, 6, 6), dtype=np.uint8)
    upload(many, {f"images/{n:03d}.png": grey for n, grey in enumerate(greys)}, user=alice, folder=tmp_path)
    made = colorized(many, tmp_path)
    client = seen_by(alice)
    page = client.get(f"/datasets/{many.pk}/?tab=colours").content.decode()
    next_page = re.search(r'rel="next" href="([^"]+)"', page)
    assert next_page
    rest = client.get(f"/datasets/{many.pk}/{next_page[1].replace('&amp;', '&')}").content.decode()
    named = [re.findall(r'title="images/(\d+)\.png"', each) for each in (page, rest)]
    assert [len(each) for each in named] == [60, 10]
    assert f"run={made.pk}" in next_page[1]
