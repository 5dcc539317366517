"""Tars: every kind of header that programs write, what tarfile's filter `data` refuses, and headers that are bombs."""

from __future__ import annotations

import gc
import gzip
import io
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest

from ml_core.data.archives import tar_archive
from ml_core.data.archives.tar_archive import Tar
from ml_core.errors import UserError


def header(name: str = "a.png", size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header("x", len(body), kind) + padded(body)


def record(keyword: str, value: bytes) -> bytes:
    length = len(keyword) + len(value) + 3
    digits = len(str(length + len(str(length))))
    return f"{length + digits} {keyword}=".encode() + value + b"\n"


def file(name: str = "a.png", content: bytes = b"grey") -> bytes:
    return header(name, len(content)) + padded(content)


def opened(folder: Path, content: bytes) -> Tar:
    path = folder / "upload"
    path.write_bytes(content)
    return Tar(path, filename="a.tar")


def faults(archive: Tar) -> list[tuple[str, str]]:
    return [(member.name, member.fault.reason) for member in archive.members if member.fault]


def contents(archive: Tar) -> dict[str, bytes]:
    found = {}
    for member in archive.members:
        if not member.fault:
            with archive.open(member) as stream:
                found[member.name] = stream.read()
    return found


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_of_every_format_are_read(tmp_path: Path, kind: int, compressed: bool) -> None:
    long = "d" * 90 + "/" + "e" * 90 + "/ü.png"
    files = {"a.png": b"", "folder/b.png": b"b" * 512, long: b"c" * 513}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, pax_headers={"comment": "of all"}) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    made = buffer.getvalue()
    read = opened(tmp_path, gzip.compress(made) if compressed else made)
    assert contents(read) == files
    assert not faults(read)
    read.close()


def test_what_the_filter_data_refuses_is_refused(tmp_path: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        pytest.skip("This version of Python has no filter of tars.")
    infos = [tarfile.TarInfo(name) for name in ("/a", "../a", "a/../../b", "a/../b", "/../a", "fine.png", "../" * 9)]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"?"):
        for target in ("/etc/passwd", "../a", "fine.png"):
            info = tarfile.TarInfo(f"{ord(kind)}-{len(target)}.png")
            info.type, info.linkname = kind, target
            infos.append(info)
    archive = opened(tmp_path, b"".join(info.tobuf(tarfile.GNU_FORMAT) for info in infos))
    refused_here = {name for name, _ in faults(archive)}
    refused_by_filter = set()
    for info in infos:
        try:
            tarfile.data_filter(info, str(tmp_path / "target"))
        except tarfile.FilterError:
            refused_by_filter.add(info.name)
    assert len(refused_by_filter) > 10
    assert refused_by_filter <= refused_here
    assert [member.name for member in archive.members if not member.fault] == ["fine.png"]


def test_sparse_files_are_refused_and_the_next_is_read(tmp_path: Path) -> None:
    sparse = bytearray(header("sparse.png", 512, tarfile.GNUTYPE_SPARSE))
    sparse[483:495] = b"00000010000\0"
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    new = pax(record("GNU.sparse.major", b"1") + record("GNU.sparse.minor", b"0"))
    new += header("new.png", 1024) + padded(b"1\n0\n512\n") + bytes(512)
    archive = opened(tmp_path, bytes(sparse) + bytes(512) + new + file())
    assert [name for name, _ in faults(archive)] == ["sparse.png", "new.png"]
    assert contents(archive) == {"a.png": b"grey"}


BOMBS = {
    "overlapping records": pax(b"1 " * 15_000 + b"="),
    "a long number": pax(record("comment", b"1" * 60_000)),
    "a record that is too long": pax(b"99 path=b.png\n"),
    "a record without end": pax(b"14 path=b.pngg"),
    "no records": pax(b"nothing"),
    "a header that is too long": pax(record("comment", b"x" * 2**16)),
    "a name that is too long": header("x", 2**17, tarfile.GNUTYPE_LONGNAME) + b"x" * 2**17,
    "headers of headers": pax(record("comment", b"x")) * 2000,
    "names of names": (header("x", 2, tarfile.GNUTYPE_LONGNAME) + padded(b"b\0")) * 2000,
    "a sparse map without end": pax(record("GNU.sparse.major", b"1") + record("GNU.sparse.minor", b"0"))
    + header("b.png", 2**20)
    + b"99999999\n"
    + b"1\n" * 2**19,
    "a negative size": pax(record("size", b"-512")),
    "a larger negative size": pax(record("size", b"-99999")),
    "a header before the end": pax(record("path", b"b.png")) + bytes(512),
    "global headers without end": b"".join(
        pax(record(f"key{number}", b"x"), tarfile.XGLTYPE) + file(f"{number}.png") for number in range(200)
    ),
    "a broken checksum": b"x" + file()[1:],
}


@pytest.mark.parametrize("name", BOMBS)
def test_broken_headers_are_refused_at_once_and_what_came_before_is_read(tmp_path: Path, name: str) -> None:
    began = time.monotonic()
    tracemalloc.start()
    archive = opened(tmp_path, file() + BOMBS[name] + file("z.png"))
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()
    assert time.monotonic() - began < 2
    assert contents(archive)["a.png"] == b"grey"
    assert "z.png" not in [member.name for member in archive.members]
    assert "damaged or cut off" in faults(archive)[-1][1]


def test_a_tar_that_begins_broken_is_no_tar(tmp_path: Path) -> None:
    for content in (b"", b"x" * 512, file()[:300], pax(b"nothing") + file()):
        with pytest.raises(UserError, match="not a whole tar file"):
            opened(tmp_path, content)


def test_headers_of_members_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    check = tar_archive.ArchiveChecker.check

    def counting(checker: tar_archive.ArchiveChecker, *, entries: int, total: int) -> None:
        kept.append(sum(type(found) is tar_archive._Header for found in gc.get_objects()))
        check(checker, entries=entries, total=total)

    monkeypatch.setattr(tar_archive.ArchiveChecker, "check", counting)
    opened(tmp_path, b"".join(file(f"{number}.png") for number in range(20)))
    assert max(kept) <= 3


def test_data_that_is_cut_off_is_refused_when_it_is_read(tmp_path: Path) -> None:
    archive = opened(tmp_path, file() + header("b.png", 2000) + bytes(1000))
    with pytest.raises(tar_archive.Refused, match="damaged or cut off"), archive.open(archive.members[1]) as stream:
        stream.read()
    assert archive.members[0].fault is None
