"""What an upload's report says of files that did not go in, however many they are."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from webapp.datasets import services
from webapp.datasets.intake.commit import commit
from webapp.datasets.models import Dataset, Upload
from webapp.projects.models import User

pytestmark = pytest.mark.django_db

MANY = 100_000


@pytest.fixture
def dataset(project, alice):
    return services.dataset_create(project=project, user=alice, name="Lucchi")


def read(folder: Path, dataset: Dataset, *, refused: int, user: User) -> Upload:
    """An upload of which so many files were refused, as its intake leaves it."""
    folder.mkdir()
    each = [
        {"name": f"scans/{n:06d}, μm.dm4", "reason": "This is a Gatan DM4 file.", "remedy": "Export it as TIFF."}
        for n in range(refused)
    ]
    (folder / "report.json").write_text(json.dumps({"files": refused, "refused": each, "left_out": [], "layouts": []}))
    for name in ("items", "tables", "manifests"):
        (folder / f"{name}.jsonl").touch()
    report = commit(dataset.pk, folder, user=user)
    return Upload.objects.create(
        dataset=dataset,
        created_by=user,
        filename="scans.zip",
        length=1,
        state=Upload.State.DONE,
        report=report,
        expires_at=timezone.now(),
    )


def rows_of(client: Client, upload: Upload) -> list[list[str]]:
    answer = client.get(f"/uploads/{upload.pk}/left-out.csv")
    assert answer["Content-Disposition"] == 'attachment; filename="scans.zip left out.csv"'
    return list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_hundred_thousand_refused_files_are_counted_on_a_small_page_and_listed_in_a_file(
    client: Client, dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    upload = read(tmp_path / "many", dataset, refused=MANY, user=alice)
    assert len(json.dumps(upload.report)) < 200_000
    client.force_login(alice)
    page = client.get(f"/datasets/{dataset.pk}/").content.decode()
    assert len(page) < 500_000
    assert "100,000 files left out." in page
    assert "The first 500 of each list are shown." in page
    assert page.count("μm.dm4") == 500
    rows = rows_of(client, upload)
    assert len(rows) == MANY + 1
    assert rows[0] == ["file", "reason", "what to do"]
    assert rows[-1] == [f"scans/{MANY - 1:06d}, μm.dm4", "This is a Gatan DM4 file.", "Export it as TIFF."]


def test_a_few_refused_files_stand_on_the_page_and_in_the_file(
    client: Client, dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    upload = read(tmp_path / "few", dataset, refused=2, user=alice)
    client.force_login(alice)
    page = client.get(f"/datasets/{dataset.pk}/").content.decode()
    assert "2 files left out." in page
    assert "are shown" not in page
    assert [row[0] for row in rows_of(client, upload)] == ["file", "scans/000000, μm.dm4", "scans/000001, μm.dm4"]


def test_a_report_of_before_lists_were_shortened_is_still_shown_and_masks_that_wait_are_in_the_file(
    client: Client, dataset: Dataset, alice: User, tmp_path: Path
) -> None:
    upload = read(tmp_path / "old", dataset, refused=1, user=alice)
    upload.report.pop("counts")
    upload.report |= {"unpaired": ["masks/lonely.png"], "waiting_masks": {"masks/lonely.png": []}}
    upload.save(update_fields=["report"])
    client.force_login(alice)
    page = client.get(f"/datasets/{dataset.pk}/").content.decode()
    assert "1 unpaired. 1 file left out." in page
    assert [row[0] for row in rows_of(client, upload)] == ["file", "scans/000000, μm.dm4", "masks/lonely.png"]


def test_only_who_sees_the_project_gets_the_list(
    client: Client, dataset: Dataset, alice: User, vera: User, charlie: User, tmp_path: Path
) -> None:
    address = f"/uploads/{read(tmp_path / 'few', dataset, refused=1, user=alice).pk}/left-out.csv"
    assert client.get(address).status_code == 302
    for user, status in ((vera, 200), (charlie, 404)):
        client.force_login(user)
        assert client.get(address).status_code == status
