"""Labels, sides and known sets, from the upload to the revision; and what broken uploads do to the dataset: nothing."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from django.db.models import Count
from django.test import Client

from ml_core.errors import UserError
from ml_core.job.context import PlainContext
from ml_core.job.inputs import Inputs, Slot
from ml_core.job.reporting import EventFile
from ml_core.recipes import intake
from ml_core.specs import IntakeSpec
from tests.fuzz import corpus
from tests.webapp.datasets.intake.test_commit import mask, newest, picture, upload
from webapp.datasets import services
from webapp.datasets.intake import services as intake_services
from webapp.datasets.models import Blob, Dataset, Upload
from webapp.datasets.revisions import manifests as revisions_manifests
from webapp.datasets.uploads import services as uploads_services
from webapp.datasets.uploads import spool
from webapp.projects.models import Project, User

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


@pytest.fixture
def dataset(project: Project, alice: User) -> Dataset:
    return services.dataset_create(project=project, user=alice, name="Cells")


@pytest.fixture
def bring(dataset: Dataset, alice: User, tmp_path: Path) -> object:
    def bring(files: dict[str, object]) -> dict[str, object]:
        return upload(dataset, files, user=alice, folder=tmp_path)

    return bring


def labels(dataset: Dataset) -> dict[str, str]:
    return {item.name: item.label for item in newest(dataset).items}


def test_a_table_labels_images_that_come_with_it(dataset, bring):
    table = b"file,label,split,group,pixel_size_nm\na.png,mouse,train,animal 1,4\nb.png,human,test,,\nz.png,yeast,,,\n"
    report = bring({"a.png": picture(1), "b.png": picture(2), "c.png": picture(3), "labels.csv": table})
    assert (report["labels"], report["unmatched"]) == ({"labels.csv": 2}, ["z.png"])
    assert report["rules"] == ["Labels of 2 images from the table labels.csv."]
    assert labels(dataset) == {"a.png": "mouse", "b.png": "human", "c.png": ""}
    a = newest(dataset).items.get(name="a.png")
    assert (a.split, a.group, a.pixel_size_nm) == ("train", "animal 1", 4.0)
    assert newest(dataset).change == "3 images added; 2 labels from labels.csv."
    manifest = revisions_manifests.revision_manifest(newest(dataset))
    assert [item.label for item in manifest.items] == ["mouse", "human", ""]


def test_a_table_that_comes_later_makes_a_revision_and_the_same_again_makes_none(dataset, bring):
    bring({"a.png": picture(1), "b.png": picture(2)})
    for _ in range(2):
        bring({"labels.csv": b"file,label\na,mouse\n"})
    assert labels(dataset) == {"a.png": "mouse", "b.png": ""}
    assert dataset.revisions.count() == 2
    assert all(not item.label for item in dataset.revisions.get(number=1).items)


def test_cem500k_is_known_by_its_table_of_organisms(dataset, bring):
    table = (
        b"filename,organism,dataset,imaging_technique\nEMPIAR-1,Human,EMPIAR-1,FIB-SEM\nEMPIAR-2,Mouse,EMPIAR-2,TEM\n"
    )
    images = {f"cem500k/EMPIAR-{n}_{k:04d}.tiff": picture(10 * n + k, size=224) for n in (1, 2) for k in range(3)}
    report = bring({**images, "cem500k/metadata.csv": table})
    assert "CEM500K" in report["rules"][0]
    assert set(labels(dataset).values()) == {"Human", "Mouse"}
    facts = newest(dataset).items.get(name="cem500k/EMPIAR-2_0001.tiff").facts
    assert (facts["organism"], facts["source"], facts["technique"]) == ("Mouse", "EMPIAR-2", "TEM")


def test_folders_side_by_side_become_labels_once_there_are_two_and_never_over_another(dataset, bring):
    bring({f"mouse/{n}.png": picture(n) for n in range(2)})
    assert set(labels(dataset).values()) == {""}
    report = bring({f"human/{n}.png": picture(9 + n) for n in range(2)})
    assert report["rules"] == ["Labels of 4 images from their folders: human, mouse."]
    assert labels(dataset)["mouse/0.png"] == "mouse"
    bring({"labels.csv": b"file,label\nmouse/0.png,rat\n"})
    bring({f"yeast/{n}.png": picture(20 + n) for n in range(2)})
    assert (labels(dataset)["mouse/0.png"], labels(dataset)["yeast/1.png"]) == ("rat", "")


def test_folders_of_a_set_with_masks_are_no_labels(dataset, bring):
    files = {f"{kind}/images/{n}.png": picture(n) for kind in ("a", "b") for n in range(2)}
    assert bring(files | {"a/masks/0.png": mask(1)})["labels"] == {}


def test_lucchi_as_casser_et_al_publish_it_comes_in_with_split_and_one_class(dataset, bring):
    files: dict[str, object] = {}
    for part in ("Train", "Test"):
        files |= {f"Lucchi++/{part}_In/mask{n:04d}.png": picture(n) for n in range(9)}
        files |= {f"Lucchi++/{part}_Out/{n}.png": np.where(mask(n) > 0, 255, 2).astype(np.uint8) for n in range(9)}
    report = bring(files)
    assert (report["added"], report["masks"], report["unpaired"]) == (18, 18, [])
    assert "Lucchi++" in report["rules"][0]
    revision = newest(dataset)
    assert revision.summary["splits"] == {"test": 9, "train": 9}
    assert Dataset.objects.get().classes == {"mitochondria": {"255": {"name": "mitochondria", "colour": "#56B4E9"}}}
    assert not revision.summary["problems"].get("unknown_values")
    twice = bring(files)
    assert (twice["added"], dataset.revisions.count()) == (0, 1)


def send(dataset: Dataset, user: User, content: bytes, *, filename: str, work: Path) -> str:
    """An upload from its first byte to its commit; returns how it ended."""
    row = uploads_services.upload_create(dataset=dataset, user=user, filename=filename, length=len(content))
    spool.spool_path(row.pk).write_bytes(content)
    Upload.objects.filter(pk=row.pk).update(offset=row.length)
    job = uploads_services.upload_finished(row.pk)
    assert job is not None
    inputs = Inputs(prepared=work, slots={"upload": Slot("upload", {"path": str(spool.spool_path(row.pk))})})
    work.mkdir()
    try:
        spec = IntakeSpec(filename=filename)
        intake.run(PlainContext(spec=spec, inputs=inputs, folder=work, reporter=EventFile(work)))
    except UserError:
        return "refused"
    intake_services.intake_commit(job, work)
    return "taken"


def test_names_that_no_database_takes_are_reported_all_the_same(dataset, alice, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a\0b\u00e9.png", "\udcff.png", "good.png"):
            info = tarfile.TarInfo(name)
            info.size = len(content := corpus.picture(corpus.GREY, "PNG"))
            archive.addfile(info, io.BytesIO(content))
    assert send(dataset, alice, gzip.compress(buffer.getvalue()), filename="a.tar.gz", work=tmp_path / "w") == "taken"
    assert list(labels(dataset)) == ["good.png"]
    assert len(Upload.objects.get().report["refused"]) == 2


@pytest.mark.slow
def test_broken_uploads_leave_the_dataset_and_its_page_whole(dataset, alice, client, tmp_path):
    chance = np.random.default_rng(7)
    good = {**corpus.images(tmp_path), **corpus.archives(tmp_path)}
    for number in range(14):
        name = list(good)[2 * number % len(good)]
        content = corpus.mutated(good[name], chance, others=list(good.values())) or b"x"
        send(dataset, alice, content, filename=f"{number}-{name}", work=tmp_path / f"work-{number}")
    for row in Upload.objects.filter(state=Upload.State.DONE):
        assert all(entry["reason"] and entry["remedy"] for entry in row.report["refused"])
    client.force_login(alice)
    assert client.get(f"/datasets/{dataset.pk}/").status_code == 200


@pytest.mark.slow
def test_all_real_micrographs_go_in_with_every_count_right(project, real_data):
    wanted = {
        "lucchi": (125, {"mask": 125}, {"test": 83, "train": 42}),
        "isbi2012_mito": (60, {"mask": 30, "membranes": 30}, {"": 60}),
        "cem500k_examples": (18, {"mask": 8}, {"": 18}),
        "fly_medulla_fibsem": (165, {}, {"": 165}),
        "hela_human_patches": (2337, {"nucleus": 2337}, {"": 2337}),
        "photos_grocery_mit": (500, {}, {"test": 100, "train": 400}),
    }
    assert {path.name for path in real_data.iterdir() if path.is_dir()} <= wanted.keys()
    for name, (images, masks, splits) in wanted.items():
        dataset = intake_services.dataset_from_folder(project=project, name=name, folder=real_data / name)
        revision = newest(dataset)
        found = (revision.items_count, revision.summary["masks"], revision.summary["splits"])
        assert found == (images, masks, splits), name
    hela = Dataset.objects.get(name="hela_human_patches")
    assert set(hela.classes["nucleus"]) == {"1", "2", "3"}
    assert {rule["rule"] for item in newest(hela).items[:50] for rule in item.masks.values()} == {"numbers"}
    photographs = newest(Dataset.objects.get(name="photos_grocery_mit"))
    assert photographs.items.filter(facts__colour=True).count() == 500
    assert not photographs.items.exclude(label="").exists()
    blobs = Blob.objects.count()
    intake_services.dataset_from_folder(project=project, name="again", folder=real_data / "cem500k_examples")
    manifests = newest(Dataset.objects.get(name="again")).manifest
    assert Blob.objects.exclude(pk=manifests).count() == blobs, "the same files are kept once"
    twins = Blob.objects.values("sha256").annotate(n=Count("pk")).filter(n__gt=1)
    assert not twins.exists()


def test_the_page_says_where_labels_came_from_and_which_lines_named_no_image(
    project: Project, alice: User, tmp_path: Path
) -> None:
    made = services.dataset_create(project=project, user=alice, name="Labelled")
    table = b"name,label\na.png,mouse\nb.png,human\nz.png,human\n"
    upload(made, {"a.png": picture(1), "b.png": picture(2), "labels.csv": table}, user=alice, folder=tmp_path)
    client = Client()
    client.force_login(alice)
    page = client.get(f"/datasets/{made.pk}/").content.decode()
    assert "labels.csv" in page
    assert "1 line of the table of labels without an image" in page
    assert "<li>z.png</li>" in page
