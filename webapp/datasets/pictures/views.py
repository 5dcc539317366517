"""Pictures of items. Whatever was uploaded, the browser only ever gets pictures that were encoded here."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
from django.core.files.storage import default_storage
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.utils.http import parse_etags
from django.views.decorators.http import require_safe
from numpy.typing import NDArray
from PIL import Image

from ml_core.data.formats import readers
from ml_core.imaging.lab import coloured
from ml_core.imaging.mask_values import only_value
from ml_core.imaging.windowing import lightness
from webapp.datasets.classes import CLASS_COLOURS
from webapp.datasets.models import Item
from webapp.datasets.pictures.colorized import planes_of
from webapp.datasets.pictures.pyramids import WHOLE_TO, in_colour, is_large, mask_of, pyramid_of
from webapp.jobs.models import Artifact
from webapp.projects.access import get_visible, signed_in

BINS = 256
COUNTED = 4_000_000
"""Pixels of a large image that its histogram is made of."""
LARGEST = WHOLE_TO
"""Longest side of a picture in pixels; larger images are shown by tiles, and their masks at a whole fraction."""
COLOURED_TO = 2048
"""The same in colours of a colorizer, which are a quarter as fine as the image that it was given."""
OVERLAY_ALPHA = 140
KEEP_SECONDS = 30 * 24 * 3600
VERSION = 1
"""Part of every ETag: raised when the same item is to be drawn otherwise."""


@require_safe
def thumbnail(request: HttpRequest, item_id: int) -> HttpResponse:
    """The small picture of the grid, WebP."""
    item = _item(request, item_id)

    def content() -> bytes:
        with default_storage.open(item.thumbnail) as file:
            return bytes(file.read())

    return _picture(request, item, content, key=item.thumbnail, media_type="image/webp")


@require_safe
def image(request: HttpRequest, item_id: int) -> HttpResponse:
    """The micrograph as 8-bit grey PNG, a photograph in colour.

    `low` and `high`: the window, in source units; `max`: the longest side.
    """
    item = _item(request, item_id)
    low, high = _number(request, "low", item.low), _number(request, "high", item.high)
    if low == high:
        return HttpResponse("low must not be high.", status=400, content_type="text/plain")
    longest = _longest(request)
    factor = _factor(request, item)
    colour = in_colour(item)

    def content() -> bytes:
        if is_large(item):
            return _png(Image.fromarray(readers.windowed(pyramid_of(item).within(longest), low=low, high=high)))
        pixels = readers.windowed(_pixels(item, colour=colour), low=low, high=high)
        return _png(Image.fromarray(pixels).reduce(factor) if factor > 1 else Image.fromarray(pixels))

    key = f"{item.image}-{item.page}-{low:g}-{high:g}-{factor}{'-colour' * colour}"
    return _picture(request, item, content, key=key)


@require_safe
def tile(request: HttpRequest, item_id: int, level: int, column: int, row: int) -> HttpResponse:
    """A square of a large image as 8-bit PNG, of a photograph in colour; `level` counts halvings.

    `low` and `high` as for `image`.
    """
    item = _item(request, item_id)
    low, high = _number(request, "low", item.low), _number(request, "high", item.high)
    if low == high:
        return HttpResponse("low must not be high.", status=400, content_type="text/plain")
    if not is_large(item):
        raise Http404

    def content() -> bytes:
        try:
            pixels = pyramid_of(item).tile(level, column, row)
        except IndexError:
            raise Http404 from None
        return _png(Image.fromarray(readers.windowed(pixels, low=low, high=high)))

    place = f"{level}-{column}-{row}{'-colour' * in_colour(item)}"
    return _picture(request, item, content, key=f"{item.image}-{item.page}-{low:g}-{high:g}-{place}")


@require_safe
def colour(request: HttpRequest, item_id: int, artifact_id: int) -> HttpResponse:
    """The micrograph in the colours that a colorize job gave it, as PNG. `small=1`: of the size of its thumbnail.

    Its lightness is that of the dataset's own window, which the job was given.
    """
    item = _item(request, item_id)
    made = Artifact.objects.filter(kind="colour", job__project=item.dataset.project_id)
    artifact = get_visible(made, signed_in(request), project="job__project", pk=artifact_id)
    small = request.GET.get("small") == "1"
    factor = max(1, math.ceil(max(item.width, item.height) / COLOURED_TO))

    def content() -> bytes:
        planes = planes_of(artifact, item)
        if planes is None:
            raise Http404
        grey = _thumbnail(item) if small else _reduced(item, factor=factor)
        return _png(Image.fromarray(coloured(grey, planes)))

    key = f"{artifact.sha256}-{item.image}-{item.page}-{item.low:g}-{item.high:g}-{'small' if small else factor}"
    return _picture(request, item, content, key=key)


@require_safe
def mask(request: HttpRequest, item_id: int, layer: str) -> HttpResponse:
    """A mask layer as 8-bit PNG, one byte per pixel: its class value. `overlay=1`: in colours, clear where it is 0."""
    item = _item(request, item_id)
    if layer not in item.masks:
        raise Http404
    ref = item.masks[layer]
    only: int | None = ref.get("only")
    factor = _factor(request, item)
    overlay = request.GET.get("overlay") == "1"
    colours = {int(v): c["colour"] for v, c in item.dataset.classes.get(layer, {}).items()} if overlay else {}

    def content() -> bytes:
        if is_large(item):
            values = mask_of(item, layer, factor=factor)
        else:
            path = Path(default_storage.path(ref["sha256"]))
            values = readers.read_mask(path, page=ref["page"])[::factor, ::factor]
        if only is not None:
            values = only_value(values, only)
        return _png(Image.fromarray(_painted(values, colours) if overlay else np.ascontiguousarray(values)))

    key = f"{ref['sha256']}-{ref['page']}-{only}-{factor}-{sorted(colours.items())}"
    return _picture(request, item, content, key=key)


@require_safe
def histogram(request: HttpRequest, item_id: int) -> HttpResponse:
    """How often each value occurs, in 256 bins between the least and the greatest (8-bit: one bin per value)."""
    item = _item(request, item_id)
    response = _not_modified(request, key := f"{item.image}-{item.page}-histogram-{item.low:g}-{item.high:g}")
    if response is None:
        with _stored(item):
            response = JsonResponse(_histogram(item))
    return _kept(response, key)


def _item(request: HttpRequest, item_id: int) -> Item:
    items = Item.objects.select_related("dataset")
    return get_visible(items, signed_in(request), project="dataset__project", pk=item_id)


@contextmanager
def _stored(item: Item) -> Iterator[None]:
    """A missing file is a 404 that names its item."""
    try:
        yield
    except FileNotFoundError:
        raise Http404(f"A file of {item.name} is missing from the storage.") from None


def _pixels(item: Item, *, colour: bool = False) -> NDArray[np.generic]:
    """(H, W), of a picture in colour (H, W, 3)."""
    path = Path(default_storage.path(item.image))
    return readers.read_colour(path, page=item.page) if colour else readers.read(path, page=item.page)


def _thumbnail(item: Item) -> NDArray[np.uint8]:
    with default_storage.open(item.thumbnail) as file, Image.open(file, formats=["WEBP"]) as picture:
        grey = np.asarray(picture.convert("L"))
    return np.invert(grey) if item.low > item.high else grey  # made once, and turned since


def _reduced(item: Item, *, factor: int) -> NDArray[np.uint8]:
    """The image in its own window, (H, W), every side divided by `factor`."""
    if is_large(item):
        pixels, factor = pyramid_of(item).within(COLOURED_TO), 1
        grey = lightness(pixels) if pixels.ndim == 3 else pixels
    else:
        grey = _pixels(item)
    picture = Image.fromarray(readers.windowed(grey, low=item.low, high=item.high))
    return np.asarray(picture.reduce(factor) if factor > 1 else picture)


def _histogram(item: Item) -> dict[str, object]:
    pixels = _some(item) if is_large(item) else _pixels(item)
    values = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels.reshape(-1)
    least, greatest = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if pixels.dtype == np.uint8:
        counts, start, end = np.bincount(values, minlength=BINS), 0.0, float(BINS)
    else:
        start, end = (least, greatest) if greatest > least else (least - 0.5, least + 0.5)
        counts, _ = np.histogram(values, bins=BINS, range=(start, end))
    return {
        "counts": [int(n) for n in counts],
        "from": start,
        "to": end,
        "least": least,
        "greatest": greatest,
        "low": item.low,
        "high": item.high,
        "dtype": item.dtype,
    }


def _some(item: Item) -> NDArray[np.generic]:
    """Every so-many-th pixel of a large image, as it is: means would hide its darkest and brightest."""
    whole = pyramid_of(item).level(0)
    step = max(1, math.ceil((item.width * item.height / COUNTED) ** 0.5))
    some = np.ascontiguousarray(whole[::step, ::step])
    return lightness(some) if some.ndim == 3 else some


def _painted(values: NDArray[np.uint8], colours: dict[int, str]) -> NDArray[np.uint8]:
    """Class values (H, W) as colours (H, W, 4), 0 clear; a value without a class of its own gets a colour too."""
    table = np.zeros((256, 4), np.uint8)
    for value in range(1, 256):
        colour = colours.get(value, CLASS_COLOURS[(value - 1) % len(CLASS_COLOURS)])
        table[value] = [*bytes.fromhex(colour.removeprefix("#")), OVERLAY_ALPHA]
    return table[values]


def _factor(request: HttpRequest, item: Item) -> int:
    return max(1, math.ceil(max(item.width, item.height) / _longest(request)))


def _longest(request: HttpRequest) -> int:
    """The longest side of the picture that is asked for."""
    return min(LARGEST, max(16, int(_number(request, "max", LARGEST))))


def _number(request: HttpRequest, name: str, default: float) -> float:
    try:
        value = float(request.GET.get(name, default))
    except ValueError:
        return default
    return value if math.isfinite(value) else default


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=2)  # Noise does not compress: higher levels cost time for nothing.
    return buffer.getvalue()


def _picture(
    request: HttpRequest, item: Item, content: Callable[[], bytes], *, key: str, media_type: str = "image/png"
) -> HttpResponse:
    """`content` is computed only if the browser has not cached it; `key` identifies the picture."""
    response = _not_modified(request, key)
    if response is None:
        with _stored(item):
            response = HttpResponse(content(), content_type=media_type)
    return _kept(response, key)


def _not_modified(request: HttpRequest, key: str) -> HttpResponse | None:
    known = parse_etags(request.headers.get("If-None-Match", ""))
    return HttpResponseNotModified() if _etag(key) in known else None


def _kept(response: HttpResponse, key: str) -> HttpResponse:
    """Headers of a picture that never changes under its key and that only its asker may keep."""
    response.headers["ETag"] = _etag(key)
    response.headers["Cache-Control"] = f"private, max-age={KEEP_SECONDS}, immutable"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _etag(key: str) -> str:
    return f'"{VERSION}-{sha256(key.encode()).hexdigest()[:32]}"'
