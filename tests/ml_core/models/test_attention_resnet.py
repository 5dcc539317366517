"""The self-attention ResNets: their size, and that whatever takes a ResNet takes them."""

from __future__ import annotations

import copy

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ml_core.errors import UserError
from ml_core.models import encoders
from ml_core.models.activation_maps import activation_map
from ml_core.models.byol import BYOL
from ml_core.models.stand_alone_attention import StandAloneAttention
from ml_core.models.unet import Segmenter
from ml_core.specs.architectures import ENCODERS

pytestmark = pytest.mark.slow

NAMES = ["attention26", "attention50"]


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _multiply_adds(encoder: nn.Module, size: int) -> int:
    """Convolutions as the library counts them, and what each attention says of itself."""
    attentions = 0

    def count(layer: nn.Module, given: tuple[Tensor], _output: Tensor) -> None:
        nonlocal attentions
        assert isinstance(layer, StandAloneAttention)
        attentions += layer.products(*given[0].shape[2:])

    for module in encoder.modules():
        if isinstance(module, StandAloneAttention):
            module.register_forward_hook(count)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(torch.zeros(1, 3, size, size, device="meta"))
    convolutions = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert attentions > 0
    return int(convolutions) // 2 + attentions


def test_every_encoder_of_the_forms_can_be_built_for_one_channel_and_for_three() -> None:
    assert tuple(ENCODERS) == encoders.ARCHITECTURES
    for name in ENCODERS:
        for channels in (1, 3):
            with torch.device("meta"), torch.no_grad():
                encoder = encoders.build(name, channels=channels)
                maps = encoder(torch.zeros(1, channels, 64, 32))
            assert [m.shape[1] for m in maps] == list(encoder.out_channels), name
            assert encoders.feature_size(encoder) == maps[-1].shape[1]


def test_attention50_has_18_million_parameters_with_a_head_of_1000_classes_and_takes_3_4_billion_products() -> None:
    with torch.device("meta"):
        encoder = encoders.build("attention50")
    assert _parameters(encoder) + _parameters(nn.Linear(2048, 1000)) == 18_038_632
    assert _multiply_adds(encoder, 224) / 1e9 == pytest.approx(3.40, abs=0.005)


def test_attention26_is_the_same_with_fewer_blocks() -> None:
    with torch.device("meta"):
        small, large = encoders.build("attention26"), encoders.build("attention50")
    blocks = [len(getattr(small, f"layer{stage}")) for stage in (1, 2, 3, 4)]
    assert blocks == [1, 2, 4, 1]
    assert small.out_channels == large.out_channels == [3, 64, 256, 512, 1024, 2048]
    assert _parameters(small) < 0.55 * _parameters(large)
    for name, value in small.state_dict().items():
        assert value.shape == large.state_dict()[name].shape


def test_every_attention_begins_with_its_own_weights_and_not_with_those_of_a_convolution() -> None:
    torch.manual_seed(0)
    encoder = encoders.build("attention26")
    for block in encoder.layer4:
        assert block.attention.query.weight.std().item() == pytest.approx((512 * 64) ** -0.5, rel=0.05)


@pytest.mark.parametrize("size", [(33, 65), (97, 31)])
def test_any_size_gives_maps_of_the_sizes_of_a_resnet(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size)
    with torch.no_grad():
        ours, theirs = (encoders.build(name).eval()(x) for name in ("attention26", "resnet50"))
    assert [tuple(m.shape) for m in ours] == [tuple(m.shape) for m in theirs]
    assert all(bool(m.isfinite().all()) for m in ours)


def test_a_row_left_over_is_averaged_with_itself_alone() -> None:
    block = encoders.build("attention26").layer2[0]
    torch.testing.assert_close(block.pool(torch.ones(1, 1, 5, 7)), torch.ones(1, 1, 3, 4))


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [smp.Unet, smp.UnetPlusPlus, smp.FPN])
def test_smps_decoders_take_it_by_name_and_train_it(decoder: type[nn.Module]) -> None:
    network = decoder(encoder_name="attention26", encoder_weights=None, in_channels=1, classes=2)
    y = network(torch.rand(2, 1, 64, 64))
    assert y.shape == (2, 2, 64, 64)
    y.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.encoder.parameters())


@pytest.mark.parametrize("depth", [1, 3])
def test_smp_may_ask_for_fewer_stages(depth: int) -> None:
    encoder = smp.encoders.get_encoder("attention26", depth=depth, weights=None).eval()
    with torch.no_grad():
        maps = encoder(torch.rand(1, 3, 32, 32))
    assert [m.shape[1] for m in maps] == [3, 64, 256, 512, 1024, 2048][: depth + 1]


def test_dilation_is_refused_with_a_sentence() -> None:
    with pytest.raises(UserError, match="no strides to replace by dilation for an output stride of 16"):
        smp.encoders.get_encoder("attention26", weights=None, output_stride=16)


@pytest.mark.slow
def test_a_unet_on_it_exports_and_the_exported_graph_answers_the_same() -> None:
    torch.manual_seed(0)
    network = smp.Unet(encoder_name="attention26", encoder_weights=None, in_channels=1, classes=1).eval()
    x = torch.rand(1, 1, 64, 64)
    exported = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), network(x), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_byol_trains_it_and_its_copy_follows() -> None:
    torch.manual_seed(0)
    byol = BYOL(encoders.build("attention26"), hidden=16, projection=8).to(memory_format=torch.channels_last)
    before = copy.deepcopy(byol.target_encoder.layer1[0].attention.row_embedding)
    optimizer = torch.optim.SGD(byol.online_parameters(), lr=0.1)
    views = [torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = byol(*views).loss
    loss.backward()
    optimizer.step()
    byol.update_target(0.9)
    assert torch.isfinite(loss)
    after = byol.target_encoder.layer1[0].attention.row_embedding
    online = byol.encoder.layer1[0].attention.row_embedding
    assert not torch.equal(before, online)
    torch.testing.assert_close(after, before.lerp(online, 0.1))


@pytest.mark.slow
def test_a_frozen_segmenter_on_it_trains_its_decoder_alone() -> None:
    segmenter = Segmenter(architecture="attention26", classes=2, mean=[0.5], deviation=[0.2], frozen=True).train()
    before = copy.deepcopy(segmenter.network.encoder.state_dict())
    segmenter(torch.rand(2, 1, 64, 64)).sum().backward()
    assert all(parameter.grad is None for parameter in segmenter.network.encoder.parameters())
    assert all(parameter.grad is not None for parameter in segmenter.network.decoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in segmenter.network.encoder.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["layer2", "layer4"])
def test_activation_maps_of_it_are_drawn_at_every_stage(layer: str) -> None:
    torch.manual_seed(0)
    network = Segmenter(architecture="attention26", classes=2, mean=[0.5], deviation=[0.2]).eval().network
    stage = getattr(network.encoder, layer)
    grey = torch.rand(1, 1, 96, 96)
    raising = activation_map("gradcam", network, stage, grey, targets=[torch.Tensor.sum])
    lowering = activation_map("gradcam", network, stage, grey, targets=[lambda logits: -logits.sum()])
    assert max(raising.max(), lowering.max()) == pytest.approx(1), "what does not raise the score lowers it"
    assert min(raising.min(), lowering.min()) == 0
    pattern = activation_map("eigencam", network, stage, grey)
    assert raising.shape == pattern.shape == (1, 96, 96)
    assert pattern.max() == pytest.approx(1)
