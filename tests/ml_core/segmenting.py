"""A small segmentation, run as its recipe runs it, on pictures of disks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ml_core.job.inputs import Inputs, Slot
from ml_core.models import encoders
from ml_core.recipes import segment
from ml_core.runtime import weights
from ml_core.runtime.training_loop import open_context
from ml_core.specs import SegmentSpec
from tests.ml_core.disks import write_disks
from tests.ml_core.reporters import Heard

SMALL: dict[str, Any] = {
    "encoder": "resnet18",
    "weights": "fine-tuned",
    "image_size": 32,
    "batch_size": 3,
    "epochs": 2,
    "learning_rate": 2e-3,
    "points_every": 1,
    "threads": 1,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of one size; six to learn from, two to validate on."""
    return write_disks(tmp_path_factory.mktemp("disks") / "set", sizes=[(48, 64)] * 8)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder, with BatchNorm statistics of its own."""
    torch.manual_seed(3)
    network = encoders.build("resnet18").train()
    with torch.no_grad():
        network(torch.rand(4, 3, 32, 32))
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    kept = weights.Encoder(
        tensors=network.state_dict(),
        architecture="resnet18",
        channels=3,
        mean=(0.4, 0.4, 0.4),
        deviation=(0.2, 0.2, 0.2),
        facts={"origin": "byol-colour"},
    )
    weights.save_encoder(path, kept)
    return path


def segmented(
    folder: Path,
    images: Path,
    *,
    heard: Heard | None = None,
    encoder: Path | None = None,
    architecture: str = "resnet18",
    prepared: Path | None = None,
    **given: Any,
) -> Heard:
    heard = heard or Heard()
    folder.mkdir(exist_ok=True)
    slots = {"dataset": Slot("dataset", {"folder": str(images)})}
    if encoder is not None:
        slots["encoder"] = Slot("encoder", {"path": str(encoder)})
    inputs = Inputs(prepared=prepared or folder / "prepared", slots=slots)
    spec = SegmentSpec(**{**SMALL, "encoder": architecture, **given})
    segment.run(open_context(spec, inputs=inputs, folder=folder, reporter=heard))
    return heard


def artifacts(heard: Heard, kind: str) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, facts) for found, path, facts in heard.artifacts if found == kind]
