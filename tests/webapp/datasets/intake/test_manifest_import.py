"""A revision that left as a zip comes back identical, and masks that were corrected elsewhere find their images."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from django.core.files.storage import default_storage
from PIL import Image

from ml_core.data.arrays import prepare
from ml_core.data.manifests.manifest import EXPORTED
from ml_core.data.naming.pairing import DEFAULT_LAYER
from tests.webapp.datasets.intake.test_commit import encoded, mask, newest, picture, upload
from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from webapp.datasets import services
from webapp.datasets.models import Blob, Dataset
from webapp.datasets.revisions import dataset_edits, item_edits, zip_export
from webapp.datasets.revisions.draft import Selection
from webapp.datasets.revisions.manifests import revision_manifest
from webapp.projects.models import Project, User

__all__ = ["seen_by"]

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


@pytest.fixture
def dataset(project: Project, alice: User, tmp_path: Path) -> Dataset:
    """Images with masks in two layers, a stack, labels, sides, a pixel size, names of classes."""
    made = services.dataset_create(project=project, user=alice, name="Lucchi")
    files: dict[str, object] = {f"images/x{n}.png": picture(n) for n in range(4)}
    files |= {f"masks/x{n}.png": mask(n) for n in range(3)}
    files |= {f"masks_membranes/x{n}.png": mask(n + 9) for n in range(2)}
    files["stack.tif"] = np.stack([picture(50 + n) for n in range(5)]).astype(np.uint16) * 200
    upload(made, files, user=alice, folder=tmp_path)
    ids = list(newest(made).items.values_list("pk", flat=True))
    item_edits.items_label(made, selection=Selection(ids=ids[:2]), label="mouse", base=1, user=alice)
    ids = list(newest(made).items.values_list("pk", flat=True))
    item_edits.items_split(made, selection=Selection(ids=ids[1:4]), split="test", base=2, user=alice)
    ids = list(newest(made).items.values_list("pk", flat=True))
    item_edits.items_measure(made, selection=Selection(ids=ids[:3]), pixel_size_nm=5.0, base=3, user=alice)
    named = {"255": {"name": "mitochondria", "colour": "#0072b2"}}
    dataset_edits.classes_name(made, layer=DEFAULT_LAYER, classes=named, base=4, user=alice)
    return made


def contents(zipped: bytes) -> dict[str, object]:
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_an_exported_revision_comes_back_identical_and_costs_no_second_blob(
    dataset: Dataset, project: Project, alice: User, tmp_path: Path
) -> None:
    revision = newest(dataset)
    files = contents(b"".join(zip_export.zipped(revision)))
    blobs = Blob.objects.count()
    back = services.dataset_create(project=project, user=alice, name="Lucchi")
    report = upload(back, files, user=alice, folder=tmp_path, filename="Lucchi-3f9c.zip")
    assert report["refused"] == []
    assert report["added"] == revision.items_count == 9
    assert newest(back).manifest == revision.manifest
    assert Blob.objects.count() == blobs
    named = [item.masks for item in newest(back).items if item.masks]
    assert named[0]["membranes"]["name"] == "masks_membranes/x0.png"
    again = b"".join(zip_export.zipped(newest(back)))
    assert contents(again) == files


def test_brought_into_the_dataset_it_came_from_it_makes_items_what_they_were(
    dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    revision = newest(dataset)
    files = contents(b"".join(zip_export.zipped(revision)))
    everything = Selection(ids=list(revision.items.values_list("pk", flat=True)))
    item_edits.items_label(dataset, selection=everything, label="wrong", base=revision.number, user=alice)
    report = upload(dataset, files, user=alice, folder=tmp_path)
    assert (report["added"], report["refused"]) == (0, [])
    assert newest(dataset).manifest == revision.manifest
    upload(dataset, files, user=alice, folder=tmp_path)
    assert newest(dataset).number == revision.number + 2  # nothing to change the second time


def test_what_a_manifest_names_and_the_zip_lacks_is_refused_by_name(
    dataset: Dataset, project: Project, alice: User, tmp_path: Path
) -> None:
    files = contents(b"".join(zip_export.zipped(newest(dataset))))
    del files["images/images/x1.png"]
    files["images/images/x2.png"] = encoded(picture(77), "x.png")
    back = services.dataset_create(project=project, user=alice, name="Lucchi")
    report = upload(back, files, user=alice, folder=tmp_path)
    assert sorted(each["name"] for each in report["refused"]) == ["images/x1.png", "images/x2.png"]  # type: ignore[index,attr-defined]
    assert "images/x0.png" in {item.name for item in newest(back).items}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 1}\nnot json', b"\x00\xff" * 50])
def test_a_manifest_that_is_none_is_refused_and_the_images_go_in(
    project: Project, alice: User, tmp_path: Path, content: bytes
) -> None:
    made = services.dataset_create(project=project, user=alice, name="New")
    report = upload(made, {EXPORTED: content, "a.png": picture(1)}, user=alice, folder=tmp_path)
    assert report["added"] == 1
    assert len(report["refused"]) <= 1  # type: ignore[arg-type]


def test_corrected_masks_come_back_in_one_drop(dataset: Dataset, alice: User, tmp_path: Path) -> None:
    before = newest(dataset)
    names = {item.name: item.masks["membranes"]["name"] for item in before.items if "membranes" in item.masks}
    corrected = {name: mask(30) for name in names.values()}
    report = upload(dataset, corrected, user=alice, folder=tmp_path)
    assert (report["masks"], report["unpaired"], report["refused"]) == (2, [], [])
    after = revision_manifest(newest(dataset))
    changed = [
        item.name
        for old, item in zip(revision_manifest(before).items, after.items, strict=True)
        if old.masks != item.masks
    ]
    assert changed == sorted(names)
    first = json.loads(json.dumps(after.items[0].as_json()))
    assert first["label"] == "mouse"
    assert first["masks"]["membranes"]["sha256"] != first["masks"][DEFAULT_LAYER]["sha256"]


def test_photographs_come_back_as_photographs_and_earlier_revisions_as_what_they_were(
    project: Project, alice: User, tmp_path: Path
) -> None:
    green = np.zeros((40, 60, 3), np.uint8) + np.array([20, 180, 60], np.uint8)
    green[:20] += 9
    made = services.dataset_create(project=project, user=alice, name="Photos")
    upload(made, {"a.png": encoded(green, "a.png")}, user=alice, folder=tmp_path)
    before = newest(made)
    dataset_edits.dataset_set_content(made, kind="photographs", base=1, user=alice)
    revision = newest(made)
    assert revision_manifest(revision).kind == "photographs"
    back = services.dataset_create(project=project, user=alice, name="Photos")
    upload(back, contents(b"".join(zip_export.zipped(revision))), user=alice, folder=tmp_path)
    back.refresh_from_db()
    assert (back.kind, newest(back).manifest) == ("photographs", revision.manifest)
    assert newest(back).items.get().problems == []
    there = services.dataset_create(project=project, user=alice, name="Photos")
    upload(there, {"b.png": picture(1)}, user=alice, folder=tmp_path)
    upload(there, contents(b"".join(zip_export.zipped(revision))), user=alice, folder=tmp_path)
    there.refresh_from_db()
    assert there.kind == "micrographs", "a dataset stays what people have said it is"
    dataset_edits.revision_restore(before, base=2, user=alice)
    made.refresh_from_db()
    assert (made.kind, newest(made).manifest) == ("micrographs", before.manifest)


def test_a_stack_of_masks_of_which_one_value_counts_comes_back_with_that_value(
    project: Project, alice: User, seen_by: Seen, tmp_path: Path
) -> None:
    made = services.dataset_create(project=project, user=alice, name="Kasthuri")
    slices = np.stack([picture(n) for n in range(5)])
    masks = np.stack([mask(n) for n in range(5)])
    masks[:, 50:, :] = 2  # outside of the tissue
    files: dict[str, object] = {"kasthuri++/Train_In/stack.tif": slices, "kasthuri++/Train_Out/stack.tif": masks}
    upload(made, files, user=alice, folder=tmp_path)
    revision = newest(made)
    first = revision.items.first()
    assert first is not None
    held = first.masks["mitochondria"]
    assert (held["only"], held["values"]) == (255, {"0": 64 * 64 - 600, "255": 600})
    assert revision.summary["problems"] == {}
    item = revision_manifest(revision).items[1]
    read = prepare.read_mask(item, "mitochondria", blobs=Path(default_storage.location))
    assert np.array_equal(read, mask(1))
    shown = seen_by(alice).get(f"/items/{first.pk}/masks/mitochondria.png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.content))), mask(0))
    back = services.dataset_create(project=project, user=alice, name="Kasthuri")
    upload(back, contents(b"".join(zip_export.zipped(revision))), user=alice, folder=tmp_path)
    assert newest(back).manifest == revision.manifest
    assert newest(back).items.first().masks["mitochondria"]["only"] == 255  # type: ignore[union-attr]
