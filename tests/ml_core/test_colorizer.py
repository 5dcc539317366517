"""The colorizers: the published network's form, and colour from structure that grey alone does not give away."""

from __future__ import annotations

import pickle
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.ensemble import HistGradientBoostingRegressor
from torch.nn import functional

from ml_core.models.colorizer import ECCV16, eccv16_from, structured_ab
from ml_core.reporting import UserError

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


def _texture(count: int, size: int) -> torch.Tensor:
    """Noise at several scales, (B, 1, H, W) in 0..1: like a micrograph in what matters here."""
    chance = torch.Generator().manual_seed(3)
    layers = [
        functional.interpolate(torch.rand(count, 1, n, n, generator=chance), size=size, mode="bicubic")
        for n in (4, 12, size // 2)
    ]
    return (sum(layers) / 3).clamp(0, 1)


def test_eccv16_has_the_names_and_shapes_of_the_published_state_dict() -> None:
    ours = {name: tuple(tensor.shape) for name, tensor in ECCV16().state_dict().items()}
    assert ours == _published_shapes()


def test_eccv16_has_32_24_million_parameters() -> None:
    assert round(sum(p.numel() for p in ECCV16().parameters()) / 1e6, 2) == 32.24


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


def test_structured_colour_is_the_same_each_time_and_lies_in_range() -> None:
    grey = _texture(2, 64)
    ab = structured_ab(grey)
    assert ab.shape == (2, 2, 64, 64)
    assert torch.equal(ab, structured_ab(grey))
    # Planes are kept as whole numbers; the batch that an image came in changes only the last bits of sums.
    assert torch.allclose(ab[1:], structured_ab(grey[1:]), atol=0.01)
    assert ab.abs().amax() <= 127
    assert ab.std() > 5


def test_one_grey_value_has_many_structured_colours() -> None:
    grey = (_texture(4, 64) * 255).round() / 255
    ab = structured_ab(grey).transpose(0, 1).flatten(1)
    values = (grey * 255).long().flatten()
    spread = torch.stack([ab[:, values == v].std(dim=1) for v in values.unique() if (values == v).sum() >= 20])
    assert spread.median(dim=0).values.min() > 0.5 * ab.std(dim=1).min()


def test_structured_colour_cannot_be_predicted_well_from_the_pixel_alone() -> None:
    """Even a strong regressor from L to ab, fitted and scored on other images, explains little."""
    grey = _texture(8, 64)
    ab = structured_ab(grey)
    for plane in range(2):
        fitted = HistGradientBoostingRegressor(random_state=0).fit(
            grey[:6].reshape(-1, 1).numpy(), ab[:6, plane].flatten().numpy()
        )
        assert fitted.score(grey[6:].reshape(-1, 1).numpy(), ab[6:, plane].flatten().numpy()) < 0.5


def test_structured_colour_is_coherent_in_space() -> None:
    ab = structured_ab(_texture(2, 64)).numpy()
    step = np.abs(np.diff(ab, axis=-1)).mean()
    anywhere = np.abs(ab - np.roll(ab, 31, axis=-1)).mean()
    assert step < 0.35 * anywhere
