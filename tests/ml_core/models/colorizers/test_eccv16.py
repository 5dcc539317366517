"""eccv16: the published network's form, its weights, and where they come from."""

from __future__ import annotations

import pickle
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from ml_core.errors import UserError
from ml_core.models.colorizers.eccv16 import ECCV16, eccv16_from
from ml_core.models.colorizers.trained import TrainedColorizer

pytestmark = pytest.mark.slow

# Names and shapes of the published state dict, block by block: (index in the block, shape of the weight).
PUBLISHED = {
    "model1": [(0, (64, 1, 3, 3)), (2, (64, 64, 3, 3)), (4, (64,))],
    "model2": [(0, (128, 64, 3, 3)), (2, (128, 128, 3, 3)), (4, (128,))],
    "model3": [(0, (256, 128, 3, 3)), (2, (256, 256, 3, 3)), (4, (256, 256, 3, 3)), (6, (256,))],
    "model4": [(0, (512, 256, 3, 3)), (2, (512, 512, 3, 3)), (4, (512, 512, 3, 3)), (6, (512,))],
    "model5": [(0, (512, 512, 3, 3)), (2, (512, 512, 3, 3)), (4, (512, 512, 3, 3)), (6, (512,))],
    "model6": [(0, (512, 512, 3, 3)), (2, (512, 512, 3, 3)), (4, (512, 512, 3, 3)), (6, (512,))],
    "model7": [(0, (512, 512, 3, 3)), (2, (512, 512, 3, 3)), (4, (512, 512, 3, 3)), (6, (512,))],
    "model8": [(0, (512, 256, 4, 4)), (2, (256, 256, 3, 3)), (4, (256, 256, 3, 3)), (6, (313, 256, 1, 1))],
}


def _published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model_out.weight": (2, 313, 1, 1)}
    for block, layers in PUBLISHED.items():
        for index, weight in layers:
            transposed = (block, index) == ("model8", 0)
            shapes[f"{block}.{index}.weight"] = weight
            shapes[f"{block}.{index}.bias"] = (weight[1] if transposed else weight[0],)
            if len(weight) == 1:
                shapes |= {f"{block}.{index}.running_mean": weight, f"{block}.{index}.running_var": weight}
                shapes[f"{block}.{index}.num_batches_tracked"] = ()
    return shapes


def test_eccv16_has_the_names_and_shapes_of_the_published_state_dict() -> None:
    ours = {name: tuple(tensor.shape) for name, tensor in ECCV16().state_dict().items()}
    assert ours == _published_shapes()


def test_eccv16_has_32_24_million_parameters() -> None:
    assert round(sum(p.numel() for p in ECCV16().parameters()) / 1e6, 2) == 32.24


def _as_published(state: dict[str, torch.Tensor], lightness: torch.Tensor) -> torch.Tensor:
    """The network written out layer by layer from the list of the published one: the oracle, in float64."""
    w = {name: value.double() for name, value in state.items()}

    def conv(x: torch.Tensor, name: str, *, stride: int = 1, dilation: int = 1) -> torch.Tensor:
        padding = dilation if w[f"{name}.weight"].shape[-1] == 3 else 0
        return functional.conv2d(
            x, w[f"{name}.weight"], w.get(f"{name}.bias"), stride=stride, padding=padding, dilation=dilation
        )

    x = (lightness.double() - 50) / 100
    strides = {"model1": 2, "model2": 2, "model3": 2}
    for block, dilation in (("model1", 1), ("model2", 1), ("model3", 1), ("model4", 1), ("model5", 2), ("model6", 2)):
        *convolutions, (norm, _) = PUBLISHED[block]
        for index, _ in convolutions:
            stride = strides.get(block, 1) if index == convolutions[-1][0] else 1
            x = conv(x, f"{block}.{index}", stride=stride, dilation=dilation).relu()
        x = _normalised(x, w, f"{block}.{norm}")
    for index in (0, 2, 4):
        x = conv(x, f"model7.{index}").relu()
    x = _normalised(x, w, "model7.6")
    x = functional.conv_transpose2d(x, w["model8.0.weight"], w["model8.0.bias"], stride=2, padding=1).relu()
    x = conv(conv(x, "model8.2").relu(), "model8.4").relu()
    ab = conv(torch.softmax(conv(x, "model8.6"), dim=1), "model_out")
    return functional.interpolate(ab, scale_factor=4, mode="bilinear", align_corners=False) * 110


def _normalised(x: torch.Tensor, w: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return functional.batch_norm(
        x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5
    )


@pytest.mark.slow
def test_eccv16_computes_what_the_published_network_does() -> None:
    torch.manual_seed(0)
    network = ECCV16().eval()
    # As they begin, the layers nearly forget what they are shown, and means and variances hide a mistake.
    for name, tensor in network.state_dict().items():
        if "running" in name:
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        elif tensor.dim() == 4:
            torch.nn.init.kaiming_normal_(tensor, nonlinearity="relu")
    lightness = torch.rand(1, 1, 32, 40) * 100
    with torch.inference_mode():
        ours = network(lightness)
        theirs = _as_published(network.state_dict(), lightness)
    assert theirs.std() > 0.2
    torch.testing.assert_close(ours.double(), theirs, atol=1e-3, rtol=1e-4)


def test_eccv16_gives_ab_at_the_size_of_its_input_within_what_its_last_layer_spans() -> None:
    network = ECCV16().eval()
    with torch.inference_mode():
        ab = network(torch.rand(2, 1, 32, 40) * 100)
        # A softmax makes a mean of the 313 columns of model_out: no answer lies outside them.
        most = network.model_out.weight.abs().amax() * 110
    assert ab.shape == (2, 2, 32, 40)
    assert ab.abs().amax() <= most


def test_weights_are_loaded_strictly_from_safetensors(tmp_path: Path) -> None:
    source = ECCV16()
    save_file(source.state_dict(), tmp_path / "colorizer.safetensors")
    loaded = eccv16_from(tmp_path / "colorizer.safetensors", keep=tmp_path)
    assert not loaded.training
    for name, tensor in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_file_that_lacks_a_layer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    state = ECCV16().state_dict()
    del state["model4.2.weight"]
    save_file(state, tmp_path / "half.safetensors")
    with pytest.raises(UserError, match="does not hold the weights of eccv16"):
        eccv16_from(tmp_path / "half.safetensors", keep=tmp_path)


class _Touches:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


def test_a_pickle_that_was_not_published_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(_Touches(tmp_path / "executed")))
    with pytest.raises(UserError, match="neither the published weights"):
        eccv16_from(tmp_path / "weights.pth", keep=tmp_path)
    assert not (tmp_path / "executed").exists()


def test_without_internet_the_sentence_says_how_to_bring_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(UserError, match=r"colorization_release_v2-9b330a0b\.pth .*bring it in.*structured"):
        eccv16_from(None, keep=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_colorizer_that_was_trained_here_is_told_apart(tmp_path: Path) -> None:
    save_file(TrainedColorizer(width=2).state_dict(), tmp_path / "colorizer.safetensors")
    with pytest.raises(UserError, match="method trained"):
        eccv16_from(tmp_path / "colorizer.safetensors", keep=tmp_path)
