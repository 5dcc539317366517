"""What archives call their files is a word for the report, and never a path."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.fuzz.corpus import GREY, picture
from tests.fuzz.names import hostile
from tests.fuzz.test_mutated_files import take_in


def as_zip(names: list[str], content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name  # ZipInfo itself would cut a name at a NUL
            archive.writestr(info, content)
    return buffer.getvalue()


def as_tar(names: list[str], content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_hostile_names_put_no_file_anywhere_and_overwrite_none(tmp_path, kind):
    names = hostile()
    assert len(names) >= 150
    content = picture(GREY, "PNG")
    made = as_zip([*names, "good.png"], content) if kind == "zip" else as_tar([*names, "good.png"], content)
    (tmp_path / "outside").mkdir()
    for name in ("a.png", "passwd.png"):
        (tmp_path / name).write_bytes(b"somebody else's")
    work = tmp_path / "work"
    work.mkdir()
    (work / "upload").write_bytes(gzip.compress(made) if kind == "tar.gz" else made)
    before = files_in(tmp_path) - files_in(work)
    report = take_in(work, filename=f"names.{kind}")
    assert files_in(tmp_path) - files_in(work) == before
    assert all((tmp_path / name).read_bytes() == b"somebody else's" for name in ("a.png", "passwd.png"))
    assert {len(path.name) for path in (work / "blobs").iterdir()} == {64}, "files are named by their hashes alone"
    taken = {line.split('"name": "')[1].split('"')[0] for line in (work / "items.jsonl").read_text().splitlines()}
    assert "good.png" in taken
    assert not taken & set(names), taken & set(names)
    assert all(entry["name"].isprintable() and len(entry["name"]) < 250 for entry in report["refused"])


def test_links_and_devices_are_refused_and_not_followed(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"{number}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive_zip:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive_zip.writestr(link, "/etc/passwd")
    for filename, content, count in (("a.tar", buffer.getvalue(), 4), ("a.zip", zipped.getvalue(), 1)):
        work = tmp_path / filename
        work.mkdir()
        (work / "upload").write_bytes(content)
        refused = take_in(work, filename=filename)["refused"]
        assert len(refused) == count
        assert all("link or a device" in entry["reason"] for entry in refused)
        assert not list((work / "blobs").iterdir())
