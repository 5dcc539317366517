"""The attention layer beside the formula written down: values, gradients, borders, precisions, and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ml_core.models import stand_alone_attention
from ml_core.models.stand_alone_attention import StandAloneAttention, attention, folded, is_folded, shifted

pytestmark = pytest.mark.slow

COMPUTATIONS = [shifted, folded]
SHAPES = [
    # batch, channels, height, width, heads, window
    (2, 16, 9, 13, 8, 7),
    (1, 64, 16, 12, 8, 7),
    (3, 32, 8, 8, 4, 5),
    (2, 16, 4, 4, 8, 7),  # smaller than the window
    (2, 16, 3, 11, 2, 7),
    (2, 16, 1, 1, 8, 7),
    (1, 16, 1, 10, 8, 3),
    (1, 16, 20, 2, 8, 9),
    (1, 8, 6, 7, 1, 1),
]


def _formula(query: Tensor, key: Tensor, value: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Equation 3 as it stands, in float64: all windows cut out (im2col), keys outside of the image masked."""
    query, key, value, row, column = (x.double() for x in (query, key, value, row, column))
    batch, channels, height, width = query.shape
    heads, size = row.shape[0], row.shape[-1]

    def windows(x: Tensor) -> Tensor:
        return F.unfold(x, size, padding=size // 2).view(len(x), -1, channels // heads, size**2, height * width)

    inside = F.unfold(query.new_ones(1, 1, height, width), size, padding=size // 2) > 0
    position = torch.cat(
        [row[..., :, None].expand(-1, -1, -1, size), column[..., None, :].expand(-1, -1, size, -1)], dim=1
    ).reshape(1, heads, -1, size**2, 1)
    queries = query.view(batch, heads, -1, 1, height * width)
    logits = (queries * (windows(key) + position)).sum(dim=2)
    shares = logits.masked_fill(~inside, float("-inf")).softmax(dim=2)
    return (shares[:, :, None] * windows(value)).sum(dim=3).view(query.shape)


def _arguments(
    batch: int, channels: int, height: int, width: int, heads: int, size: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    maps = [torch.randn(batch, channels, height, width, generator=chance, dtype=dtype) for _ in range(3)]
    tables = [torch.randn(heads, channels // heads // 2, size, generator=chance, dtype=dtype) for _ in range(2)]
    if channels == heads * 8:
        maps[0] *= 3  # steep softmaxes as well
    return [x.requires_grad_() for x in (*maps, *tables)]


def _with_gradients(compute: Callable[..., Tensor], arguments: list[Tensor]) -> list[Tensor]:
    y = compute(*arguments)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return [y.detach(), *torch.autograd.grad(y, arguments, weights.to(y.dtype))]


def _error(found: Tensor, right: Tensor) -> float:
    """The largest error, as a part of the largest right value."""
    return ((found - right).abs().max() / right.abs().max().clamp_min(1)).item()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_alone_attention, "CHUNK", 1)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("compute", COMPUTATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_all_gradients_are_those_of_the_formula(compute: Callable[..., Tensor], shape: tuple[int]) -> None:
    arguments = _arguments(*shape)
    right = _with_gradients(_formula, [x.detach().double().requires_grad_() for x in arguments])
    for found, expected in zip(_with_gradients(compute, arguments), right, strict=True):
        assert found.dtype == torch.float32
        assert _error(found, expected) < 1e-5


@pytest.mark.usefixtures("small_chunks")
def test_a_batch_that_is_worked_on_piece_by_piece_gives_the_same() -> None:
    arguments = _arguments(5, 16, 9, 8, 2, 7)
    right = _with_gradients(_formula, [x.detach().double().requires_grad_() for x in arguments])
    for found, expected in zip(_with_gradients(shifted, arguments), right, strict=True):
        assert _error(found, expected) < 1e-5


@pytest.mark.parametrize("compute", COMPUTATIONS)
@pytest.mark.parametrize("shape", [(1, 4, 3, 2, 1, 3), (1, 4, 2, 2, 2, 5)])
def test_gradients_are_those_of_finite_differences(compute: Callable[..., Tensor], shape: tuple[int]) -> None:
    assert torch.autograd.gradcheck(compute, _arguments(*shape, dtype=torch.float64))


def test_a_key_outside_of_the_image_takes_no_part() -> None:
    """Where all keys are alike, each place answers with the plain mean of the values that its window has."""
    layer = StandAloneAttention(1, 2, kernel_size=3, heads=1)
    with torch.no_grad():
        layer.query.weight.zero_()
        layer.value.weight.fill_(1)
        x = torch.arange(12.0).view(1, 1, 3, 4)
        mean = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        torch.testing.assert_close(layer(x)[:, :1], mean)


def test_embeddings_are_of_rows_first_and_then_of_columns() -> None:
    """A strong row embedding of the tap above makes each place answer with the value above it; so for columns."""
    x = torch.arange(20.0).view(1, 1, 4, 5)
    for name, above in (
        ("row_embedding", (slice(0, -1), slice(None))),
        ("column_embedding", (slice(None), slice(0, -1))),
    ):
        layer = StandAloneAttention(1, 2, kernel_size=3, heads=1)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.zero_()
            layer.value.weight.fill_(1)
            layer.query.weight.fill_(1)
            getattr(layer, name)[0, 0, 0] = 1000
            y = layer(x + 1) - 1
        height, width = above
        expected = F.avg_pool2d(x, (1, 3), stride=1, padding=(0, 1), count_include_pad=False)
        if name == "column_embedding":
            expected = F.avg_pool2d(x, (3, 1), stride=1, padding=(1, 0), count_include_pad=False)
            torch.testing.assert_close(y[0, 0, :, 1:], expected[0, 0, height, width])
        else:
            torch.testing.assert_close(y[0, 0, 1:], expected[0, 0, height, width])


def test_heads_are_channel_blocks_that_do_not_see_each_other() -> None:
    arguments = _arguments(1, 16, 6, 6, 2, 7)
    both = attention(*arguments)
    first = attention(*(x[:, :8] for x in arguments[:3]), *(x[:1] for x in arguments[3:]))
    torch.testing.assert_close(both[:, :8], first)


def test_its_parameters_have_the_agreed_names_and_shapes() -> None:
    layer = StandAloneAttention(12, 32)
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {
        "query.weight": (32, 12, 1, 1),
        "key.weight": (32, 12, 1, 1),
        "value.weight": (32, 12, 1, 1),
        "row_embedding": (8, 2, 7),
        "column_embedding": (8, 2, 7),
    }
    assert layer(torch.zeros(1, 12, 5, 6)).shape == (1, 32, 5, 6)


def test_logits_begin_with_a_spread_of_about_one() -> None:
    torch.manual_seed(0)
    for depth in (8, 64):
        layer = StandAloneAttention(8 * depth, 8 * depth)
        x = torch.randn(1, 8 * depth, 20, 20)
        q, k = (m(x).unflatten(1, (8, depth)) for m in (layer.query, layer.key))
        content = (q * k.roll(1, dims=-1)).sum(dim=2)
        position = torch.einsum("bncyx,nck->bnkyx", q[:, :, : depth // 2], layer.row_embedding)
        assert content.std().item() == pytest.approx(1, rel=0.3)
        assert position.std().item() == pytest.approx(0.5**0.5, rel=0.3)


@pytest.mark.parametrize(("arguments", "sentence"), [((8, 8), "multiple of 16"), ((8, 16, 4), "odd kernel_size")])
def test_impossible_layers_are_refused(arguments: tuple[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        StandAloneAttention(*arguments)


@pytest.mark.parametrize("compute", COMPUTATIONS)
def test_under_bfloat16_autocast_logits_stay_exact(compute: Callable[..., Tensor]) -> None:
    """From the same bfloat16 maps, the answer is that of the formula but for its own rounding; gradients too."""
    plain = _arguments(2, 32, 9, 10, 4, 7)
    halves = [x.detach().bfloat16().requires_grad_() for x in plain[:3]] + plain[3:]
    right = _with_gradients(_formula, [x.detach().double().requires_grad_() for x in halves])
    with torch.autocast("cpu", torch.bfloat16):
        found = _with_gradients(compute, halves)
    assert found[0].dtype == found[1].dtype == torch.bfloat16
    assert found[4].dtype == torch.float32
    assert (found[0] - right[0]).abs().max() < 2**-8 * right[0].abs().max()
    for value, expected in zip(found[1:], right[1:], strict=True):
        assert _error(value, expected) < 2**-6


@pytest.mark.parametrize("places", [(16, 16), (8, 9)])
def test_the_memory_format_of_the_input_is_kept_and_changes_nothing(places: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = StandAloneAttention(16, 32)
    x = torch.randn(2, 16, *places)
    y = layer(x)
    again = layer.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert again.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(again, y)


@pytest.mark.parametrize("places", [(15, 17), (8, 8)])
def test_a_layer_may_be_used_twice_in_one_graph(places: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = StandAloneAttention(16, 16).double()
    x = torch.randn(1, 16, *places, dtype=torch.float64)
    (layer(layer(x)) ** 2).sum().backward()
    found = {name: p.grad for name, p in layer.named_parameters()}

    def through(projections: list[Tensor], z: Tensor) -> Tensor:
        q, k, v = (F.conv2d(z, w) for w in projections[:3])
        return _formula(q, k, v, *projections[3:])

    parameters = [layer.query.weight, layer.key.weight, layer.value.weight, layer.row_embedding, layer.column_embedding]
    right = torch.autograd.grad((through(parameters, through(parameters, x)) ** 2).sum(), parameters)
    names = ["query.weight", "key.weight", "value.weight", "row_embedding", "column_embedding"]
    for name, expected in zip(names, right, strict=True):
        torch.testing.assert_close(found[name], expected)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("compute", COMPUTATIONS)
def test_in_deterministic_mode_it_works_and_repeats_to_the_last_bit(compute: Callable[..., Tensor]) -> None:
    first, second = (_with_gradients(compute, _arguments(3, 32, 10, 9, 8, 7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_both_computations_are_in_use() -> None:
    """The shapes of the networks at 128 pixels: large maps by shifts, small ones as a whole."""
    cpu = torch.device("cpu")
    assert [is_folded(side**2, cpu) for side in (56, 32, 28, 16, 14, 8, 7, 4)] == [False] * 4 + [True] * 4


@pytest.mark.slow
def test_large_maps_keep_the_probabilities_and_no_windows() -> None:
    """What autograd keeps for the backward pass, bytes: three maps and 49 shares per head and place, float32."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    arguments = _arguments(4, 64, 32, 32, 8, 7)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        y = shifted(*arguments)
    places, padded = 32 * 32, 32 * 35
    assert sum(kept.values()) <= 4 * 4 * (3 * 64 * places + 8 * 49 * padded) + 4000
    assert y.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("places", [(18, 15), (8, 7)])
def test_it_exports_and_the_exported_graph_answers_the_same(places: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = StandAloneAttention(16, 32).eval()
    x = torch.randn(2, 16, *places)
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), layer(x), rtol=0, atol=0)
