"""What stops a start says so in one sentence with a remedy."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.up.conftest import ROOT
from webapp.local import conditions

Usage = collections.namedtuple("Usage", "total used free")


def test_a_full_disk_is_named_with_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions.shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 312 * 10**6))
    with pytest.raises(
        conditions.CannotStart, match=r"312 MB are free at .*, and Cristae needs at least 1 GB\. Free some"
    ):
        conditions.disk_has_room(tmp_path)


def test_a_front_end_that_is_not_built_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(conditions.CannotStart, match="Run `make setup`"):
        conditions.front_end_built(tmp_path)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(conditions.CannotStart, match="not an address of this machine"):
        conditions.port_free("192.0.2.1", 8000)


@pytest.mark.skipif(os.geteuid() == 0, reason="The administrator may write everywhere.")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(conditions.CannotStart, match="not yours to write to"):
        conditions.folder_usable(tmp_path)


def _setup(tmp_path: Path, python: str) -> subprocess.CompletedProcess[str]:
    """`bin/setup` on a machine whose only Python is the script `python`."""
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{python}\n")
        program.chmod(0o755)
    # Never the environment that the tests run in, should the refusal under test fail to come.
    command = ["/bin/sh", str(ROOT / "bin" / "setup"), "--venv", str(tmp_path / "venv")]
    env = {"PATH": str(tmp_path)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)


def test_an_old_python_is_named_with_what_to_install(tmp_path: Path) -> None:
    done = _setup(tmp_path, 'case "$1" in --version) echo Python 3.9.18;; *) exit 1;; esac')
    assert done.returncode == 1
    assert done.stderr.startswith("Cristae needs Python 3.11, 3.12 or 3.13, and here is Python 3.9.18. Install one")
    assert len(done.stderr.splitlines()) == 1


def test_a_python_without_virtual_environments_is_named_with_the_package(tmp_path: Path) -> None:
    # Debian's python3 without python3-venv has no ensurepip.
    hidden = f'exec {sys.executable} -S -c \'import sys; sys.modules["ensurepip"] = None; sys.argv = sys.argv[1:]; '
    hidden += f'sys.path.insert(0, "{ROOT / "bin"}"); '
    hidden += 'import runpy; runpy.run_path(sys.argv[0], run_name="__main__")\' "$@"'
    done = _setup(tmp_path, f'case "$1" in -c) exit 0;; *) {hidden};; esac')
    assert done.returncode == 1, done.stdout + done.stderr
    assert "apt install python3-venv" in done.stderr
