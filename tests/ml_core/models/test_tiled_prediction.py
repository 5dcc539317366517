"""Prediction in tiles: no seam, no row left out, no more memory than a tile's height."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ml_core.models.tiled_prediction import enlarged_bands, flipped, predict_bands, predict_tiled


@pytest.mark.parametrize("shape", [(64, 64), (65, 130), (20, 200), (10, 10), (300, 40)])
@pytest.mark.parametrize("tile", [32, 96])
def test_tiles_of_a_pointwise_model_join_without_a_seam(shape: tuple[int, int], tile: int) -> None:
    grey = torch.rand(1, *shape)
    sizes: set[tuple[int, ...]] = set()

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        assert len(tiles) <= 3
        sizes.add(tuple(tiles.shape[1:]))
        return torch.cat([1 - tiles, tiles], dim=1)

    joined = predict_tiled(predict, grey, tile=tile, overlap=8, batch_size=3)
    assert joined.shape == (2, *shape)
    assert torch.allclose(joined[1], grey[0], atol=1e-5)
    [(channels, tall, wide)] = sizes
    assert channels == 1
    assert tall % 32 == wide % 32 == 0
    assert max(tall, wide) <= tile


def test_a_tile_counts_least_at_its_border() -> None:
    """A model that is wrong on the rim of each tile is outvoted where tiles overlap."""
    grey = torch.zeros(1, 32, 80)

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        answer = torch.zeros_like(tiles)
        answer[..., :2] = answer[..., -2:] = 1
        return answer

    joined = predict_tiled(predict, grey, tile=32, overlap=16, batch_size=8)
    assert joined[0, :, 4:-4].max() < 0.2


@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (64, 16), (2048, 128)])
def test_rows_come_out_once_and_in_order_and_no_band_is_higher_than_a_tile(tile: int, overlap: int) -> None:
    for height in (1, 31, 32, 33, 100, 257):
        grey = torch.rand(1, height, 40)
        seen = 0
        for first, logits in predict_bands(lambda t: t, grey, tile=tile, overlap=overlap, batch_size=2):
            assert first == seen
            assert 0 < logits.shape[1] <= tile
            assert logits.shape[2] == 40
            seen += logits.shape[1]
        assert seen == height


def test_a_prediction_of_2048_tiles_computes_at_most_1_3_times_the_pixels_of_an_image_of_10_000() -> None:
    """Along one side, at most the root of it."""
    computed = 0

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        nonlocal computed
        computed += tiles.numel()
        assert max(tiles.shape[2:]) <= 2048
        return tiles

    grey = torch.zeros(1, 10_000, 32)
    assert (
        sum(band.shape[1] for _, band in predict_bands(predict, grey, tile=2048, overlap=128, batch_size=1)) == 10_000
    )
    assert computed <= 1.3**0.5 * grey.numel()


def test_the_tiles_overlap_by_what_was_asked_for() -> None:
    covered = torch.zeros(200, dtype=torch.long)

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        for tile in tiles:
            covered[int(tile[0, 0, 0]) : int(tile[0, 0, -1]) + 1] += 1
        return tiles

    columns = torch.arange(200.0).expand(1, 32, 200)
    list(predict_bands(predict, columns, tile=64, overlap=20, batch_size=1))
    assert covered.min() >= 1
    # Between two tiles at least 20 columns are seen twice: 4 tiles, 3 overlaps.
    assert (covered == 2).sum() >= 3 * 20


@pytest.mark.parametrize("size", [(100, 37), (20, 300), (24, 24), (7, 5)])
def test_enlarged_bands_are_those_of_the_library(size: tuple[int, int]) -> None:
    logits = torch.randn(3, 24, 24)
    bands = list(enlarged_bands(logits, size=size, rows=16))
    assert all(band.shape[1] <= 16 for _, band in bands)
    joined = torch.cat([band for _, band in bands], dim=1)
    assert torch.allclose(joined, functional.interpolate(logits[None], size=size, mode="bilinear")[0], atol=1e-5)


def test_flips_are_undone_before_the_mean_and_all_eight_are_asked() -> None:
    seen: set[tuple[float, ...]] = set()

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        seen.add(tuple(tiles[0, 0].flatten().tolist()))
        return tiles * 2

    tiles = torch.arange(6.0).view(1, 1, 2, 3)
    assert torch.equal(flipped(predict)(tiles), tiles * 2)
    assert len(seen) == 8


def test_flips_make_a_lopsided_model_even() -> None:
    """A model that answers with the pixel on the left answers with the mean of the four neighbours."""
    tiles = torch.rand(2, 1, 8, 8)
    mean = flipped(lambda x: x.roll(1, dims=3))(tiles)
    neighbours = sum(tiles.roll(shift, dims=axis) for shift in (1, -1) for axis in (2, 3)) / 4
    assert torch.allclose(mean, neighbours, atol=1e-6)
