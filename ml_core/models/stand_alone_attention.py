"""Stand-alone self-attention: a layer that replaces a convolution, computed in two ways depending on the map's size.

Ramachandran et al., "Stand-Alone Self-Attention in Vision Models" (NeurIPS 2019, arXiv:1906.05909), equations 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SMALL_MAP = 200
"""The most positions of a map for which attention is computed over the whole map; see `is_folded`."""

FAR = -1e4
"""The logit of a key outside of the window in the folded computation: its exponential is 0, and bfloat16 holds it."""

CHUNK = 2**18
"""About how many query values a CPU processes at a time: more do not fit in its caches, fewer are not worth a call."""


class StandAloneAttention(nn.Module):
    """Each position of a map attends to the `kernel_size` x `kernel_size` positions around it, in `heads` heads.

    For a query at a position, and keys and values at the positions of its window, each head gives

        y = sum over the window of softmax(q . k + q . r) v

    with r, for a key `i` rows and `j` columns away, the row embedding of i in its first half and the column embedding
    of j in its second (eq. 3). There is no factor 1/sqrt(d) and no projection of the output. Channels are ordered head
    by head. Keys outside of the image are masked: the paper does not define this case, and keys of zeros would draw
    attention to the border.

    Raises ValueError where `out_channels` are not `heads` times an even depth, or `kernel_size` is even.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 7, heads: int = 8) -> None:
        super().__init__()
        if out_channels % (2 * heads):
            raise ValueError(
                f"{out_channels} channels cannot be shared by {heads} heads of even depth. "
                f"Choose a multiple of {2 * heads}."
            )
        if kernel_size % 2 == 0:
            raise ValueError(f"A window of {kernel_size} places has no middle. Choose an odd kernel_size.")
        self.kernel_size, self.heads = kernel_size, heads
        self.query = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.key = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.value = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        half = out_channels // heads // 2
        self.row_embedding = nn.Parameter(torch.empty(heads, half, kernel_size))
        self.column_embedding = nn.Parameter(torch.empty(heads, half, kernel_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets random weights with which logits vary by about 1, both by content and by position.

        The formula has no 1/sqrt(d); the query's initial weights include it instead (as in Raffel et al. 2020,
        arXiv:1910.10683). Otherwise a deep head would at first attend to a single position.
        """
        fan_in, depth = self.query.in_channels, 2 * self.row_embedding.shape[1]
        nn.init.normal_(self.query.weight, std=(fan_in * depth) ** -0.5)
        for projection in (self.key, self.value):
            nn.init.normal_(projection.weight, std=fan_in**-0.5)
        for embedding in (self.row_embedding, self.column_embedding):
            nn.init.normal_(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        return attention(self.query(x), self.key(x), self.value(x), self.row_embedding, self.column_embedding)

    def products(self, height: int, width: int) -> int:
        """Multiply-adds for one map without the three convolutions, which operation counters include already.

        In each window q . k and the sum of values; for each position the rows' and the columns' q . r.
        """
        size, channels = self.kernel_size, self.query.out_channels
        return height * width * channels * (2 * size**2 + size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, heads={self.heads}"


def attention(query: Tensor, key: Tensor, value: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The layer after its projections: (B, C, H, W) three times, embeddings (heads, C / heads / 2, size) twice.

    Returns (B, C, H, W) in the type and memory format of `query`. Logits and sums are of float32 or better, also
    under autocast.
    """
    places = query.shape[-2] * query.shape[-1]
    compute = folded if is_folded(places, query.device) else shifted
    return compute(query, key, value, row, column)


def _exactly(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which autocast does not compute products of logits in half precision."""
    known = torch.amp.is_autocast_available(device.type)  # not on the device meta, where operations are counted
    if known and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def is_folded(places: int, device: torch.device) -> bool:
    """Whether attention on a map of H x W `places` is computed over the whole map rather than window by window.

    As a whole, the work grows with the square of the positions, in a few large products; by shifts, with the positions
    and the window, in some hundred small steps. Measured on one CPU core, forward and backward, four maps in 8 heads
    and 7x7 windows, milliseconds by shifts and as a whole: 4x4 of 512 channels 12 and 2, 8x8 of 256 channels 11 and 4,
    14x14 of 256 channels 25 and 22, 16x16 of 256 channels 31 and 41, 16x16 of 128 channels 17 and 29. As a whole, a
    14x14 map also keeps 4 times as many probabilities, so there is no reason to go above 200 positions. For a GPU the
    same limit is assumed, but not measured: a small map is then a handful of launches instead of hundreds.
    """
    return places <= SMALL_MAP


def shifted(query: Tensor, key: Tensor, value: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Like `attention`, one tap of the window after the other: no tensor is larger than the probabilities."""
    with _exactly(query.device):
        return _Shifted.apply(query, key, value, row, column)


def folded(query: Tensor, key: Tensor, value: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Like `attention`, as ordinary attention of all positions to all: for small maps.

    Position and window are folded into longer vectors, so that any kernel for attention computes it without a mask:
    q' = [q, its logit for each row of the map, and for each column] and k' = [k, one-hot row, one-hot column], where
    rows and columns outside of the window have the logit -1e4. Then q' . k' is the logit of equation 3 inside of the
    window, and too low to count outside.
    """
    batch, _, height, width = query.shape
    heads, half, _ = row.shape
    kind = _computed_in(query)
    with _exactly(query.device):
        q, k, v = (x.to(kind).reshape(batch, heads, -1, height, width) for x in (query, key, value))
        rows, far_rows = _by_place(row.to(kind), height)
        columns, far_columns = _by_place(column.to(kind), width)
        by_row = torch.einsum("bncyx,ncyr->bnyxr", q[:, :, :half], rows) + far_rows[:, None]
        by_column = torch.einsum("bncyx,ncxs->bnyxs", q[:, :, half:], columns) + far_columns
        one_hot = torch.cat(
            [
                torch.eye(height, dtype=kind, device=q.device)[:, None].expand(-1, width, -1),
                torch.eye(width, dtype=kind, device=q.device)[None].expand(height, -1, -1),
            ],
            dim=-1,
        )
        longer_q = torch.cat([q.permute(0, 1, 3, 4, 2), by_row, by_column], dim=-1).flatten(2, 3)
        longer_k = torch.cat([k.permute(0, 1, 3, 4, 2), one_hot.expand(batch, heads, -1, -1, -1)], dim=-1).flatten(2, 3)
        y = F.scaled_dot_product_attention(longer_q, longer_k, v.flatten(3).transpose(2, 3), scale=1.0)
        return torch.empty_like(query).copy_(y.transpose(2, 3).reshape(query.shape))


def _by_place(embedding: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """An embedding (heads, d/2, size) by the absolute positions of query and key, (heads, d/2, length, length).

    Also the term to add to logits, (length, length): 0 inside of the window, -1e4 outside, where the embedding is 0.
    """
    size = embedding.shape[-1]
    place = torch.arange(length, device=embedding.device)
    tap = place[None, :] - place[:, None] + size // 2
    # A product rather than indexing, whose gradient would be summed in no fixed order on a GPU.
    taken = (tap[..., None] == torch.arange(size, device=embedding.device)).to(embedding.dtype)
    return torch.einsum("nck,yrk->ncyr", embedding, taken), FAR * (1 - taken.sum(dim=-1))


class _Shifted(torch.autograd.Function):
    """Accumulated shifts, forward and backward, in memory of the order of the window.

    Maps are stored flat, one row after the other, with `radius` zeros after each row and whole rows of zeros above and
    below, so that the keys of one tap for all queries are one contiguous slice at a small offset; where a shift passes
    the end of a row it reads zeros. Saved for the backward pass are the inputs and the probabilities, in the inputs'
    type: (B, heads, size^2, H, W) instead of depth times as many values in im2col. Computing the probabilities again
    instead took 25 to 35 % more time on a CPU, with all shapes of the network.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, row: Tensor, column: Tensor) -> Tensor:
        flat = _Flat(query, row)
        embeddings = row.to(flat.kind), column.to(flat.kind)
        out = torch.empty_like(query)
        probabilities = []
        for part in flat.parts():
            q, k, v = flat.queries(query[part]), flat.keys(key[part]), flat.keys(value[part])
            p = flat.logits(q, k, *embeddings).softmax(dim=2)
            y = torch.zeros_like(q)
            for share, values in zip(flat.by_tap(p), flat.taps(v), strict=True):
                y.addcmul_(share, values)
            out[part] = flat.map_of_queries(y)
            probabilities.append(p.to(query.dtype))
        ctx.save_for_backward(query, key, value, row, column, *probabilities)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        with _exactly(gradient.device):  # backward may be called inside of autocast
            return _Shifted._gradients(ctx, gradient)

    @staticmethod
    def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        query, key, value, row, column, *probabilities = ctx.saved_tensors
        flat = _Flat(query, row)
        half = row.shape[1]
        rows, columns = row.to(flat.kind), column.to(flat.kind)
        d_rows, d_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for part, saved in zip(flat.parts(), probabilities, strict=True):
            q, k, v = flat.queries(query[part]), flat.keys(key[part]), flat.keys(value[part])
            dy, p = flat.queries(gradient[part]), saved.to(flat.kind)
            # The softmax: ds = p (dp - sum of p dp), with dp = dy . v.
            ds = flat.dots(dy, v)
            ds.sub_((ds * p).sum(dim=2, keepdim=True)).mul_(p)
            dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for d_logit, share, keys, d_keys, d_values in zip(
                flat.by_tap(ds), flat.by_tap(p), flat.taps(k), flat.taps(dk), flat.taps(dv), strict=True
            ):
                dq.addcmul_(d_logit, keys)
                d_keys.addcmul_(d_logit, q)
                d_values.addcmul_(share, dy)
            grid = ds.unflatten(2, (flat.size, flat.size))
            ds_rows, ds_columns = grid.sum(dim=3), grid.sum(dim=2)
            dq[:, :, :half] += torch.einsum("bnkl,nck->bncl", ds_rows, rows)
            dq[:, :, half:] += torch.einsum("bnkl,nck->bncl", ds_columns, columns)
            d_rows += torch.einsum("bncl,bnkl->nck", q[:, :, :half], ds_rows)
            d_columns += torch.einsum("bncl,bnkl->nck", q[:, :, half:], ds_columns)
            d_query[part] = flat.map_of_queries(dq)
            d_key[part], d_value[part] = flat.map_of_keys(dk), flat.map_of_keys(dv)
        return d_query, d_key, d_value, d_rows.to(row.dtype), d_columns.to(column.dtype)


class _Flat:
    """The flat layout (b, heads, depth, places) of maps (b, C, H, W), and the operations on it."""

    def __init__(self, like: Tensor, embedding: Tensor) -> None:
        self.batch, self.channels, self.height, self.width = like.shape
        self.heads, self.size = embedding.shape[0], embedding.shape[-1]
        self.device, self.kind = like.device, _computed_in(like)
        self.radius = self.size // 2
        self.pitch = self.width + self.radius
        self.places = self.height * self.pitch

    def parts(self) -> Iterator[slice]:
        """Slices of the batch to process in turn. A GPU and an exported graph take the whole batch at once."""
        at_a_time = self.batch
        if self.device.type == "cpu" and not torch.compiler.is_compiling():
            at_a_time = max(1, CHUNK // (self.channels * self.places))
        return (slice(first, first + at_a_time) for first in range(0, self.batch, at_a_time))

    def queries(self, x: Tensor) -> Tensor:
        """(b, C, H, W) to (b, heads, depth, places), with `radius` zeros after each row."""
        by_head = x.to(self.kind).unflatten(1, (self.heads, -1))
        return F.pad(by_head, (0, self.radius)).flatten(3)

    def keys(self, x: Tensor) -> Tensor:
        """Like `queries`, with rows of zeros above and below: one more than the window reaches, for its corners."""
        by_head = x.to(self.kind).unflatten(1, (self.heads, -1))
        return F.pad(by_head, (0, self.radius, self.radius + 1, self.radius + 1)).flatten(3)

    def map_of_queries(self, x: Tensor) -> Tensor:
        return x.unflatten(3, (self.height, self.pitch))[..., : self.width].flatten(1, 2)

    def map_of_keys(self, x: Tensor) -> Tensor:
        return x.unflatten(3, (-1, self.pitch))[..., self.radius + 1 : -self.radius - 1, : self.width].flatten(1, 2)

    def windows(self, x: Tensor) -> Tensor:
        """The keys `x` in each query's window: (b, heads, depth, size, size, places), a view that overlaps itself."""
        above_left = self.pitch - self.radius
        rows = x[..., above_left:].unfold(-1, self.places + self.size - 1, self.pitch)[..., : self.size, :]
        return rows.unfold(-1, self.places, 1)

    def taps(self, x: Tensor) -> list[Tensor]:
        """`windows` tap by tap: size^2 views (b, heads, depth, places)."""
        return [tap for row in self.windows(x).unbind(3) for tap in row.unbind(3)]

    def by_tap(self, p: Tensor) -> tuple[Tensor, ...]:
        """Probabilities (b, heads, size^2, places) tap by tap: size^2 views (b, heads, 1, places)."""
        return p.unsqueeze(2).unbind(3)

    def dots(self, q: Tensor, k: Tensor, start: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(b, heads, size^2, places): each query's scalar product with the keys of its window.

        Added to `start`, terms by row and by column (b, heads, size, places), where given. A row of the window is
        accumulated channel by channel, for all its columns at once.
        """
        by_channel = q.unsqueeze(3).unbind(2)
        totals = []
        for row, keys in enumerate(self.windows(k).unbind(3)):
            shape = (*q.shape[:2], self.size, self.places)
            total = start[0][:, :, row, None] + start[1] if start else q.new_zeros(shape)
            for one, its_keys in zip(by_channel, keys.unbind(2), strict=True):
                total.addcmul_(one, its_keys)
            totals.append(total)
        return torch.cat(totals, dim=2)

    def logits(self, q: Tensor, k: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """(b, heads, size^2, places): q . k + q . r, and -inf for keys outside of the image."""
        half = row.shape[1]
        by_row = torch.einsum("bncl,nck->bnkl", q[:, :, :half], row)
        by_column = torch.einsum("bncl,nck->bnkl", q[:, :, half:], column)
        place = torch.arange(self.places, device=self.device)
        shift = torch.arange(self.size, device=self.device)[:, None] - self.radius
        y, x = place // self.pitch, place % self.pitch
        above_or_below = (y + shift < 0) | (y + shift >= self.height)
        # True for some taps of a query, never for all, also in the zeros after a row: no softmax is over an empty set.
        beside = (x + shift < 0) | (x + shift >= self.width)
        lowest = float("-inf")
        return self.dots(q, k, (by_row.masked_fill(above_or_below, lowest), by_column.masked_fill(beside, lowest)))


def _computed_in(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
