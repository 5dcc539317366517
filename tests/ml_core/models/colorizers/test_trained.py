"""The colorizer that is trained here: its size, its file, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ml_core.errors import UserError
from ml_core.models.colorizers.eccv16 import ECCV16
from ml_core.models.colorizers.trained import TrainedColorizer, trained_from
from ml_core.runtime import weights


def _kept(path: Path, network: TrainedColorizer) -> Path:
    weights.save(path, network.state_dict(), facts=network.facts())
    return path


def test_the_small_one_has_two_million_weights_and_the_full_one_those_of_eccv16() -> None:
    assert sum(p.numel() for p in TrainedColorizer().parameters()) == 2_069_513
    full = {name: tensor.shape for name, tensor in TrainedColorizer(width=64, shortcuts=False).state_dict().items()}
    published = {name: tensor.shape for name, tensor in ECCV16().state_dict().items()}
    assert full.keys() ^ published.keys() == {"bins", "model_out.weight"}
    assert all(full[name] == published[name] for name in full.keys() & published.keys())


def test_shortcuts_pass_on_the_detail_and_without_them_it_is_the_published_network() -> None:
    torch.manual_seed(0)
    plain = TrainedColorizer(width=2, shortcuts=False).eval()
    short = TrainedColorizer(width=2).eval()
    short.load_state_dict(plain.state_dict(), strict=False)
    assert short.shortcut is not None
    lightness = torch.rand(1, 1, 32, 32) * 100
    with torch.inference_mode():
        assert not torch.allclose(short.logits(lightness), plain.logits(lightness))
        # Written out: what goes in is added to what comes out of blocks 5 to 7, and detail to the enlarged last block.
        x = plain.model2(plain.model1((lightness - 50) / 100))
        detail = plain.model3[3](plain.model3[2](plain.model3[1](plain.model3[0](x))))
        x = plain.model4(plain.model3[6](plain.model3[5](plain.model3[4](detail.clone()))))
        x = x + plain.model5(x)
        x = x + plain.model6(x)
        x = x + plain.model7(x)
        x = plain.model8[0](x) + short.shortcut(detail)
        torch.testing.assert_close(short.logits(lightness), plain.model8[1:](x), atol=1e-5, rtol=1e-5)


def test_a_training_begins_with_how_common_each_colour_is() -> None:
    torch.manual_seed(0)
    network = TrainedColorizer(width=4)
    share = torch.rand(313) ** 8 + 1e-4
    share /= share.sum()
    network.begin(share)
    with torch.no_grad():
        said = network.logits(torch.rand(4, 1, 32, 32) * 100).softmax(dim=1).mean(dim=(0, 2, 3))
    assert torch.corrcoef(torch.stack([said, share]))[0, 1] > 0.9
    assert said[share.argmax()] > 0.5 * share.max()


def test_it_colours_at_the_size_of_its_input() -> None:
    network = TrainedColorizer(width=2).eval()
    with torch.inference_mode():
        ab = network(torch.rand(2, 1, 32, 40) * 100)
        assert network.logits(torch.rand(2, 1, 32, 40)).shape == (2, 313, 8, 10)
    assert ab.shape == (2, 2, 32, 40)
    assert ab.abs().amax() <= 110, "a mean of bins lies among them"


def test_it_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TrainedColorizer(width=4, temperature=0.5).eval()
    again = trained_from(_kept(tmp_path / "colorizer.safetensors", network))
    assert not again.training
    lightness = torch.rand(1, 1, 32, 32) * 100
    with torch.inference_mode():
        assert torch.equal(again(lightness), network(lightness))


def test_other_weights_are_refused_with_what_to_choose(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    weights.save(path, {"conv1.weight": torch.zeros(1)}, facts={"architecture": "resnet18"})
    with pytest.raises(UserError, match=r"encoder\.safetensors is no colorizer .*train_colorizer"):
        trained_from(path)
    (tmp_path / "published.pth").write_bytes(b"PK\x03\x04 not safetensors")
    with pytest.raises(UserError, match="the published weights of eccv16 go with the method eccv16"):
        trained_from(tmp_path / "published.pth")


@pytest.mark.parametrize("fault", ["width", "bins", "model8.6.bias"])
def test_a_file_that_says_one_thing_and_holds_another_is_refused(tmp_path: Path, fault: str) -> None:
    network = TrainedColorizer(width=2)
    state, facts = dict(network.state_dict()), network.facts()
    if fault == "width":
        facts["width"] = 4
    else:
        del state[fault]
    weights.save(tmp_path / "odd.safetensors", state, facts=facts)
    with pytest.raises(UserError, match="does not fit"):
        trained_from(tmp_path / "odd.safetensors")
