"""The web and the worker's supervisor run without torch; ml_core's torch-free part knows nothing of the web."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TORCH_FREE = [
    "ml_core.specs",
    "ml_core.job.reporting",
    "ml_core.data.manifests.manifest",
    "ml_core.data.naming.pairing",
    "ml_core.data.arrays.prepare",
    "ml_core.data.formats.pyramid",
    "ml_core.data.formats.readers",
    "ml_core.data.manifests.splits",
    "ml_core.data.synthetic",
    "ml_core.recipes.intake",
]
HEAVY = {"torch", "torchvision", "segmentation_models_pytorch", "pytorch_grad_cam"}
WEB = {"django", "celery", "channels", "redis", "kombu"}


def _loaded(code: str) -> set[str]:
    """Names of top-level packages that a fresh interpreter has loaded after `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def _every_module(package: str) -> str:
    """Code that imports all modules of `package` but its migrations."""
    files = sorted((ROOT / package).rglob("*.py"))
    modules = [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files]
    wanted = [m for m in modules if "migrations" not in m and "__main__" not in m]
    return (
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'webapp.settings'\nimport django; django.setup()\n"
        f"import importlib\nfor name in {wanted!r}: importlib.import_module(name)"
    )


@pytest.mark.parametrize("package", ["webapp", "worker"])
def test_every_module_loads_without_torch(package: str) -> None:
    assert not _loaded(_every_module(package)) & HEAVY


@pytest.mark.parametrize("module", TORCH_FREE)
def test_the_shared_part_of_ml_core_loads_neither_torch_nor_the_web(module: str) -> None:
    assert not _loaded(f"import {module}") & (HEAVY | WEB)


def test_ml_core_itself_imports_nothing() -> None:
    plain, with_it = _loaded("pass"), _loaded("import ml_core")
    assert with_it - plain == {"ml_core"}


def test_up_starts_without_django() -> None:
    assert not _loaded("import webapp.local.up") & (HEAVY | WEB)


def test_the_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
