"""From a folder to the parts that a segmentation learns from and is judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_core.job.inputs import Inputs, Slot
from ml_core.recipes.dataset_inputs import open_masked
from ml_core.runtime.training_loop import open_context
from ml_core.specs import SegmentSpec
from tests.ml_core.disks import write_disks
from tests.ml_core.reporters import Heard


@pytest.mark.parametrize("rule", ["dataset", "random"])
def test_as_much_is_held_out_as_is_asked_for_and_a_quarter_without_asking(tmp_path: Path, rule: str) -> None:
    write_disks(tmp_path / "set", sizes=[(32, 32)] * 20)

    def held_out(**given: Any) -> int:
        spec = SegmentSpec(**{"image_size": 32, "validation": rule, "threads": 1, **given})
        slot = Slot("dataset", {"folder": str(tmp_path / "set")})
        inputs = Inputs(prepared=tmp_path / "prepared", slots={"dataset": slot})
        data = open_masked(open_context(spec, inputs=inputs, folder=tmp_path, reporter=Heard()))
        return len(data.validation)

    assert held_out() == 5
    assert held_out(validation_share=0.1) == 2
    assert held_out(validation_share=0.5) == 10
