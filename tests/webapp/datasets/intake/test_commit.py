"""What an upload becomes: items, masks, revisions. Uploads go the way of the queue, without the queue."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from django.core.files.storage import default_storage
from PIL import Image

from ml_core.data import synthetic
from ml_core.data.arrays import prepare
from ml_core.job.context import PlainContext
from ml_core.job.inputs import Inputs, Slot
from ml_core.job.reporting import EventFile
from ml_core.recipes import intake
from ml_core.specs import IntakeSpec
from webapp.datasets import services
from webapp.datasets.intake import services as intake_services
from webapp.datasets.models import Blob, Dataset, Item, Revision, Upload
from webapp.datasets.revisions import manifests
from webapp.datasets.uploads import services as uploads_services
from webapp.datasets.uploads import spool
from webapp.jobs.models import Job, State
from webapp.projects.models import Project, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Lucchi")


@pytest.fixture
def bring(dataset: Dataset, alice: User, tmp_path: Path) -> object:
    """Brings files (name -> array, or bytes) into the dataset as one upload and returns its report."""

    def bring(files: dict[str, object], *, filename: str = "upload.zip") -> dict[str, object]:
        return upload(dataset, files, user=alice, folder=tmp_path, filename=filename)

    return bring


def upload(
    dataset: Dataset, files: dict[str, object], *, user: User, folder: Path, filename: str = "upload.zip"
) -> dict[str, object]:
    work = folder / f"job-{Upload.objects.count()}"
    work.mkdir()
    source = work / "source"
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, bytes) else encoded(content, name))
    row = uploads_services.upload_create(dataset=dataset, user=user, filename=filename, length=source.stat().st_size)
    spool.spool_path(row.pk).write_bytes(source.read_bytes())
    Upload.objects.filter(pk=row.pk).update(offset=row.length)
    job = uploads_services.upload_finished(row.pk)
    assert job is not None
    inputs = Inputs(prepared=work, slots={"upload": Slot("upload", {"path": str(spool.spool_path(row.pk))})})
    spec = IntakeSpec(filename=filename)
    intake.run(PlainContext(spec=spec, inputs=inputs, folder=work, reporter=EventFile(work)))
    intake_services.intake_commit(job, work)
    row.refresh_from_db()
    assert row.state == Upload.State.DONE
    return row.report


def encoded(pixels: object, name: str) -> bytes:
    buffer = io.BytesIO()
    if name.endswith((".tif", ".tiff")):
        tifffile.imwrite(buffer, np.asarray(pixels))
    else:
        Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def picture(seed: int, *, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size)).astype(np.uint8)


def mask(seed: int, *, size: int = 64) -> np.ndarray:
    drawn = np.zeros((size, size), np.uint8)
    drawn[seed : seed + 20, 10:40] = 255
    return drawn


def newest(dataset: Dataset) -> Revision:
    return dataset.revisions.latest("number")


def names(dataset: Dataset) -> list[str]:
    return [item.name for item in newest(dataset).items]


def test_images_and_masks_of_a_zip_become_items_of_the_first_revision(dataset, bring):
    report = bring({f"images/{n}.png": picture(n) for n in range(3)} | {f"masks/{n}.png": mask(n) for n in range(3)})
    assert (report["added"], report["masks"], report["paired"]) == (3, 3, {"folder": 3})
    revision = newest(dataset)
    assert (revision.number, revision.items_count) == (1, 3)
    assert revision.summary["masks"] == {"mask": 3}
    assert revision.change == "3 images added; 3 masks paired by folder."
    item = revision.items.get(name="images/1.png")
    assert item.masks["mask"]["values"] == {"0": 64 * 64 - 600, "255": 600}
    assert dataset.classes == {}
    assert Dataset.objects.get().classes == {"mask": {"255": {"name": "mask", "colour": "#56B4E9"}}}


def test_the_manifest_of_a_revision_gives_the_very_pixels_that_were_uploaded(dataset, bring, tmp_path):
    bring({"images/a.png": picture(1), "masks/a.png": mask(3)})
    revision = newest(dataset)
    manifest = manifests.revision_manifest(revision)
    assert manifest.sha256 == revision.manifest
    blobs = Path(default_storage.location)
    assert (prepare.read_image(manifest.items[0], blobs=blobs) == picture(1)).all()
    assert (prepare.read_mask(manifest.items[0], "mask", blobs=blobs) == mask(3)).all()


def test_the_same_upload_twice_changes_nothing(dataset, bring):
    files = {"images/a.png": picture(1), "images/b.png": picture(2), "masks/a.png": mask(1)}
    bring(files)
    blobs, rows = Blob.objects.count(), Item.objects.count()
    report = bring(files)
    assert (report["added"], report["already_there"]) == (0, 2)
    assert (Blob.objects.count(), Item.objects.count(), dataset.revisions.count()) == (blobs, rows, 1)


def test_masks_that_come_later_find_their_images_and_the_earlier_revision_stays_as_it_was(dataset, bring):
    bring({f"images/{n}.png": picture(n) for n in range(4)})
    bring({f"masks/{n}.png": mask(n) for n in range(4)})
    first, second = dataset.revisions.order_by("number")
    assert all(not item.masks for item in first.items)
    assert all(item.masks for item in second.items)
    assert [i.position for i in first.items] == [i.position for i in second.items]
    assert second.change == "4 masks paired by folder."


def test_masks_that_come_before_their_images_wait_for_them(dataset, bring):
    report = bring({"masks/a.png": mask(1), "masks/lonely.png": mask(2)})
    assert (report["unpaired"], dataset.revisions.count()) == (["masks/a.png", "masks/lonely.png"], 0)
    bring({"images/a.png": picture(1)})
    assert newest(dataset).items.get().masks["mask"]["name"] == "masks/a.png"
    assert Upload.objects.earliest("created_at").report["unpaired"] == ["masks/lonely.png"]


def test_a_corrected_mask_replaces_the_earlier_one_in_a_new_revision(dataset, bring):
    bring({"images/a.png": picture(1), "masks/a.png": mask(1)})
    bring({"masks/a.png": mask(9)})
    first, second = (revision.items.get() for revision in dataset.revisions.order_by("number"))
    assert first.masks["mask"]["sha256"] != second.masks["mask"]["sha256"]


def test_another_image_under_a_name_that_is_taken_is_refused_and_never_overwrites(dataset, bring):
    bring({"images/a.png": picture(1)})
    before = newest(dataset).items.get().image
    report = bring({"images/a.png": picture(2), "images/b.png": picture(3)})
    assert [r["name"] for r in report["refused"]] == ["images/a.png"]
    assert newest(dataset).items.get(name="images/a.png").image == before
    assert names(dataset) == ["images/a.png", "images/b.png"]


def test_items_stand_in_natural_order_whatever_the_order_of_uploads(dataset, bring):
    for numbers in ((10, 30), (2, 9), (1, 11)):
        bring({f"slice_{number}.png": picture(number) for number in numbers})
    assert names(dataset) == [f"slice_{n}.png" for n in (1, 2, 9, 10, 11, 30)]


def test_a_stack_with_a_stack_of_masks_becomes_slices_of_one_group(dataset, bring):
    stack = np.stack([picture(n) for n in range(12)])
    masks = np.stack([mask(n) for n in range(12)])
    report = bring({"training.tif": stack, "training_groundtruth.tif": masks})
    assert report["paired"] == {"suffix": 12}
    items = list(newest(dataset).items)
    assert [item.name for item in items[:2]] == ["training.tif#01", "training.tif#02"]
    assert {item.group for item in items} == {"training.tif"}
    assert [item.index for item in items] == list(range(12))
    assert all(item.masks["mask"]["page"] == item.page for item in items)


def test_slices_that_come_bit_by_bit_are_sorted_into_a_stack_once_there_are_enough(dataset, bring):
    bring({f"z_{number:03d}.png": picture(number) for number in (1, 3, 5, 7)})
    assert {item.group for item in newest(dataset).items} == {""}
    bring({f"z_{number:03d}.png": picture(number) for number in (0, 2, 4, 6, 8)})
    assert {(item.group, item.index) for item in newest(dataset).items} == {("z", n) for n in range(9)}


def test_the_doctor_names_every_problem(dataset, bring):
    odd = mask(1)
    odd[0, 0] = 38
    files = {f"images/{n:02d}.png": picture(n) for n in range(20)} | {f"masks/{n:02d}.png": mask(n) for n in range(15)}
    files |= {
        "images/00.png": np.full((64, 64), 7, np.uint8),
        "masks/01.png": odd,
        "masks/02.png": np.zeros((64, 64), np.uint8),
        "masks/03.png": mask(1, size=48),
        "images/again.png": picture(5),
    }
    report = bring(files)
    kinds = {item.name: [p["kind"] for p in item.problems] for item in newest(dataset).items}
    assert kinds["images/00.png"] == ["constant"]
    assert kinds["images/01.png"] == ["unknown_values"]
    assert kinds["images/02.png"] == ["empty_mask"]
    assert kinds["images/03.png"] == ["size_mismatch"]
    assert kinds["images/16.png"] == ["unpaired"]
    assert "duplicate" in kinds["images/again.png"]
    assert kinds["images/05.png"] == []
    assert [r["name"] for r in report["refused"]] == ["masks/03.png"]
    assert newest(dataset).summary["problems"]["unpaired"] == 6


def test_a_folder_becomes_a_dataset_by_the_same_road(project, tmp_path):
    synthetic.write_folder(tmp_path, count=3, size=96, seed=1)
    dataset = intake_services.dataset_from_folder(project=project, name="Synthetic", folder=tmp_path)
    assert newest(dataset).summary["masks"] == {"mitochondria": 3}
    assert all(item.group == "" for item in newest(dataset).items)


def test_a_failed_intake_shows_as_a_failed_upload(dataset, alice):
    row = uploads_services.upload_create(dataset=dataset, user=alice, filename="a.png", length=3)
    Upload.objects.filter(pk=row.pk).update(offset=3)
    job = uploads_services.upload_finished(row.pk)
    assert uploads_services.upload_finished(row.pk) is None, "queued once"
    Job.objects.filter(pk=job.pk).update(state=State.FAILED, reason="a.png is damaged.")
    shown = uploads_services.upload_state(Upload.objects.select_related("job").get(pk=row.pk))
    assert (shown["state"], shown["reason"]) == ("failed", "a.png is damaged.")


@pytest.mark.slow
def test_every_folder_of_real_micrographs_goes_in_whole(project, real_data):
    wanted = {
        "lucchi/training": (42, {"mask": 42}),
        "isbi2012_mito": (60, {"mask": 30, "membranes": 30}),
        "hela_human_patches": (2337, {"nucleus": 2337}),
        "cem500k_examples": (18, {"mask": 8}),
        "fly_medulla_fibsem": (165, {}),
    }
    for folder, (images, masks) in wanted.items():
        dataset = intake_services.dataset_from_folder(project=project, name=folder, folder=real_data / folder)
        revision = newest(dataset)
        assert (revision.items_count, revision.summary["masks"]) == (images, masks), folder
        assert json.dumps(revision.summary)
