"""What the page says of a job's memory beforehand is what is counted where torch is at hand."""

from __future__ import annotations

import pytest

from ml_core.models import costs
from ml_core.specs import SegmentSpec
from ml_core.specs.architectures import EncoderName
from webapp.jobs.estimates.memory import memory_of

pytestmark = pytest.mark.slow  # networks are built and run


@pytest.mark.parametrize(
    ("encoder", "given"),
    [
        ("resnet18", {"decoder": "fpn", "decoder_width": "half", "weights": "frozen"}),
        ("resnet18", {"decoder": "unetplusplus", "weights": "fine-tuned"}),
        (
            "resnet50",
            {"weights": "fine-tuned", "framing": "crops", "image_size": 448, "resolution": "half", "batch_size": 1},
        ),
    ],
)
def test_the_memory_that_a_page_foretells_is_that_of_the_network(encoder: EncoderName, given: dict[str, str]) -> None:
    spec = SegmentSpec(encoder=encoder, precision="float32", **given)  # type: ignore[arg-type]
    foretold, counted = memory_of(spec), costs.of_spec(spec).memory
    assert foretold is not None
    assert counted is not None
    assert counted.total <= foretold <= 1.6 * counted.total + 0.5 * 2**30
