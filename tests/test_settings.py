"""`.env.example` names every variable, and no other; a bad value is refused by name."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _read_by_settings() -> set[str]:
    """First arguments of the calls `env.<reader>("NAME", ...)`."""
    calls = [
        node for node in ast.walk(ast.parse((ROOT / "webapp/settings.py").read_text())) if isinstance(node, ast.Call)
    ]
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "env"
        and isinstance(call.args[0], ast.Constant)
    }


def _explained() -> dict[str, str]:
    return dict(re.findall(r"^#?([A-Z][A-Z_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def _used_by_compose() -> set[str]:
    return {
        name
        for file in ROOT.glob("docker-compose*.yml")
        for name in re.findall(r"(?<!\$)\$\{([A-Z][A-Z_]*)", file.read_text())
    }


def test_the_example_names_every_variable_and_no_other() -> None:
    assert _read_by_settings() | _used_by_compose() == set(_explained())


def _settings(**variables: str) -> subprocess.CompletedProcess[str]:
    """Reads the settings in a process with these variables and none from here."""
    code = "import django; django.setup(); from django.conf import settings; print(settings.ALLOWED_HOSTS)"
    given = {
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "DATABASE_URL": "postgresql://a:b@127.0.0.1/c",
        "REDIS_URL": "redis://127.0.0.1",
        "CRISTAE_SECRET_KEY": "k" * 60,
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env=given | variables, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_settings_stand_with_the_example_as_it_is() -> None:
    filled = {
        name: value for name, value in _explained().items() if value and name not in {"DATABASE_URL", "REDIS_URL"}
    }
    done = _settings(**filled)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("CRISTAE_SECRET_KEY", "short", "CRISTAE_SECRET_KEY is shorter than 50 characters."),
        ("CRISTAE_URL", "cristae.example.org", "is not an address: write http://host:port or https://host."),
        ("CRISTAE_DEBUG", "perhaps", "CRISTAE_DEBUG='perhaps' is neither yes nor no: write 1 or 0."),
        ("CRISTAE_LEASE_SECONDS", "0", "CRISTAE_LEASE_SECONDS=0 is out of range: 1 to 3600."),
        ("CRISTAE_LOG_LEVEL", "LOUD", "choose one of DEBUG, INFO, WARNING, ERROR."),
        ("DATABASE_URL", "mysql://a@b/c", "Cristae runs on PostgreSQL"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str, sentence: str) -> None:
    done = _settings(**{name: value})
    assert done.returncode != 0
    assert sentence in done.stderr


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "database").write_text("mysql://from-the-file@b/c\n")
    without = _settings(DATABASE_URL_FILE=str(tmp_path / "database"), DATABASE_URL="postgresql://a:b@127.0.0.1/c")
    assert without.returncode == 0, "the variable itself comes before its file"
    done = _settings(CRISTAE_TIME_ZONE_FILE=str(tmp_path / "absent"))
    assert f"CRISTAE_TIME_ZONE_FILE={tmp_path / 'absent'} cannot be read" in done.stderr


@pytest.mark.slow
def test_https_closes_the_webs_usual_doors() -> None:
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    given = {
        "DATABASE_URL": "postgresql://a:b@127.0.0.1/c",
        "REDIS_URL": "redis://127.0.0.1",
        "CRISTAE_SECRET_KEY": "".join(map(chr, range(48, 110))),
        "CRISTAE_URL": "https://cristae.example.org",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
