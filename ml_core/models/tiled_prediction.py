"""Predicts whole images in overlapping tiles, in memory that does not grow with the image's height.

Rows are yielded as soon as no further tile covers them, so the buffer of sums is only as high as one tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from ml_core.specs.architectures import STRIDE

Predict = Callable[[Tensor], Tensor]
"""Maps tiles (B, 1, h, w), of the image's own dtype, to logits (B, K, h, w)."""


def predict_bands(
    predict: Predict, grey: Tensor, *, tile: int, overlap: int, batch_size: int
) -> Iterator[tuple[int, Tensor]]:
    """The logits of one image `grey` (1, H, W), from top to bottom: (first row, logits (K, rows, W) float32).

    Tiles are at most `tile` on each side and overlap by `overlap` or more; an image's tiles all have one size, the
    smallest that covers it with the same number of tiles, so that few pixels are computed more often than needed. Each
    tile has the most weight at its centre and the least at its border, where a network sees half of its context: no
    seam is visible. Sides that are not a multiple of 32 are padded by reflection. Up to `batch_size` tiles are
    predicted at once.
    """
    height, width = grey.shape[-2:]
    tall, tops = _cover(height, tile=tile, overlap=overlap)
    wide, lefts = _cover(width, tile=tile, overlap=overlap)
    padded = _padded(grey, tall, wide)
    # A tile's weights are the product of a tent over its rows and one over its columns, and so are the sums of weights.
    down, across = (_tent(side, device=grey.device) for side in (tall, wide))
    tent = down[:, None] * across
    total: Tensor | None = None  # (K, tall, W): the sum of the tiles over the rows from `top` on
    whole_across = _summed(across, lefts, length=padded.shape[-1])
    whole_down = _summed(down, tops, length=padded.shape[-2])
    for number, top in enumerate(tops):
        for first in range(0, len(lefts), batch_size):
            group = lefts[first : first + batch_size]
            tiles = torch.stack([padded[:, top : top + tall, left : left + wide] for left in group])
            for left, answer in zip(group, predict(tiles), strict=True):
                if total is None:
                    total = torch.zeros((answer.shape[0], tall, padded.shape[-1]), device=grey.device)
                total[:, :, left : left + wide] += answer.float() * tent
        assert total is not None, "an image has at least one tile"
        after = tops[number + 1] if number + 1 < len(tops) else height
        done = min(after, height) - top
        yield top, (total[:, :done, :width] / whole_down[top : top + done, None]).div_(whole_across[:width])
        # Rows that the next row of tiles overlaps move up; the rest of the buffer is zeroed.
        overlapped = total[:, after - top :].clone()
        total.zero_()[:, : overlapped.shape[1]] = overlapped


def predict_tiled(predict: Predict, grey: Tensor, *, tile: int, overlap: int, batch_size: int) -> Tensor:
    """All logits (K, H, W) of one image `grey` (1, H, W) at once; see `predict_bands`."""
    bands = predict_bands(predict, grey, tile=tile, overlap=overlap, batch_size=batch_size)
    return torch.cat([logits for _, logits in bands], dim=1)


def enlarged_bands(logits: Tensor, *, size: tuple[int, int], rows: int = 1024) -> Iterator[tuple[int, Tensor]]:
    """`logits` (K, h, w) resized to `size` (H, W) bilinearly, in bands of `rows`: (first row, (K, rows, W)).

    The same values as `interpolate(mode="bilinear")`, which would keep all of them in memory at once.
    """
    height, width = size
    wide = _lerped(logits, axis=2, length=width, first=0, count=width)
    for first in range(0, height, rows):
        yield first, _lerped(wide, axis=1, length=height, first=first, count=min(rows, height - first))


def flipped(predict: Predict) -> Predict:
    """The mean of the logits of a tile and of its seven turned and mirrored copies: eight times the work."""

    def mean(tiles: Tensor) -> Tensor:
        total: Tensor | None = None
        for turns in range(4):
            for mirror in (False, True):
                seen = torch.rot90(tiles, turns, (2, 3))
                answer = predict((seen.flip(3) if mirror else seen).contiguous()).float()
                answer = torch.rot90(answer.flip(3) if mirror else answer, -turns, (2, 3))
                total = answer if total is None else total + answer
        assert total is not None
        return total / 8

    return mean


def _cover(length: int, *, tile: int, overlap: int) -> tuple[int, list[int]]:
    """The side of the tiles along `length`, and their offsets, evenly spread."""
    assert tile % STRIDE == 0, "tiles fit the network"
    assert overlap < tile, "each tile adds something"
    if length <= tile:
        return max(STRIDE, math.ceil(length / STRIDE) * STRIDE), [0]
    count = 1 + math.ceil((length - tile) / (tile - overlap))
    side = math.ceil((length + (count - 1) * overlap) / count / STRIDE) * STRIDE
    return side, [round(i * (length - side) / (count - 1)) for i in range(count)]


def _tent(side: int, *, device: torch.device) -> Tensor:
    """Weights (side,): 1 in the middle, small and above 0 at the border."""
    return 1 - (torch.arange(side, device=device, dtype=torch.float32) * 2 + 1 - side).abs() / (side + 1)


def _summed(tent: Tensor, starts: list[int], *, length: int) -> Tensor:
    whole = torch.zeros(length, device=tent.device)
    for start in starts:
        whole[start : start + len(tent)] += tent
    return whole


def _padded(grey: Tensor, tall: int, wide: int) -> Tensor:
    """Pads to at least one tile in both axes by reflection, or by repeating the edge where the image is too small."""
    below, right = max(tall - grey.shape[-2], 0), max(wide - grey.shape[-1], 0)
    if not below and not right:
        return grey
    short = below >= grey.shape[-2] or right >= grey.shape[-1]
    padding = (0, right, 0, below)
    if grey.dtype == torch.uint8:  # Padding needs floating point; integers up to 255 convert both ways unchanged.
        return functional.pad(grey[None].float(), padding, mode="replicate" if short else "reflect")[0].to(grey.dtype)
    return functional.pad(grey[None], padding, mode="replicate" if short else "reflect")[0]


def _lerped(values: Tensor, *, axis: int, length: int, first: int, count: int) -> Tensor:
    """Positions `first`.. of the `length` to which `axis` of `values` is resized, linearly between pixel centres."""
    have = values.shape[axis]
    at = ((torch.arange(first, first + count, device=values.device) + 0.5) * (have / length) - 0.5).clamp(0, have - 1)
    low = at.floor().long()
    high = (low + 1).clamp_max(have - 1)
    shape = [1, 1, 1]
    shape[axis] = count
    share = (at - low).to(values.dtype).view(shape)
    return torch.lerp(values.index_select(axis, low), values.index_select(axis, high), share)
