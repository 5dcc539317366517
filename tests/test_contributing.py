"""What CONTRIBUTING.md shows works as it stands there."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from ml_core import specs
from ml_core.__main__ import main
from ml_core.data import synthetic
from ml_core.runtime import weights
from webapp.jobs.job_kinds import Kind

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```python\n# (ml_core/\S+\.py)\n(.*?)```", re.DOTALL)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the example, as modules of the names that the text gives them."""
    blocks = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert len(blocks) == 3
    for path in sorted(blocks, key=lambda path: "recipes" in path):  # a recipe imports the others
        name = path.removesuffix(".py").replace("/", ".")
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(blocks[path], encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    described = sys.modules["ml_core.specs.simsiam"]
    monkeypatch.setitem(specs.SPECS, "simsiam", described.SimSiamSpec)
    monkeypatch.setitem(specs.PRESETS, "simsiam", described.PRESETS)


@pytest.mark.slow
@pytest.mark.usefixtures("written")
def test_the_method_that_is_shown_trains_through_the_command_line_and_leaves_an_encoder(tmp_path: Path) -> None:
    synthetic.write_folder(tmp_path / "images", count=6, size=64, seed=1)
    asked = {"encoder": "resnet18", "views": "byol", "image_size": 32, "batch_size": 4, "epochs": 2}
    asked |= {"hidden_size": 32, "projection_size": 16, "points_every": 1}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"kind": "simsiam", "preset": "recommended", **asked}), encoding="utf-8")
    command = ["run", str(path), "--workdir", str(tmp_path / "out"), "--dataset", str(tmp_path / "images")]
    assert main(command) == 0
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_bytes().splitlines()]
    losses = [event["value"] for event in events if event["kind"] == "point" and event["name"] == "loss/train"]
    assert len(losses) == 2 * (6 // 4)
    assert weights.load_encoder(tmp_path / "out" / "artifacts" / "encoder.safetensors").architecture == "resnet18"


def test_a_kind_of_job_needs_no_word_of_the_queue() -> None:
    from webapp.jobs import job_kinds
    from worker.finishers import finisher_of

    assert set(job_kinds.KINDS) == set(specs.SPECS)
    assert isinstance(job_kinds.KINDS["pretrain"], Kind)
    assert finisher_of("pretrain") is not finisher_of("segment")
