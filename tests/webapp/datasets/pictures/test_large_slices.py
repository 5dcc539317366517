"""A slice of hundreds of megapixels comes in and is looked at without the memory that it takes.

At 20,000 x 20,000 in `make fuzz`, at a fifth of that in `make test`.
"""

from __future__ import annotations

import io
import shutil
import statistics
import time
from pathlib import Path

import mrcfile
import numpy as np
import psutil
import pytest
import tifffile
from django.conf import settings
from numpy.typing import NDArray
from PIL import Image

from ml_core.data.formats.decoder import Decoder
from tests.fuzz.test_bombs import peak
from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from webapp.datasets.intake import services
from webapp.projects.models import Project, User

__all__ = ["seen_by"]

pytestmark = pytest.mark.django_db

MB = 2**20
SMALLER, LARGEST = 9_000, 20_000


def pixels(side: int) -> NDArray[np.uint8]:
    """Five bits of noise, and a corner that can be told from others."""
    noise = np.random.default_rng(0).integers(96, 128, (1000, 1000), dtype=np.uint8)
    whole = np.tile(noise, (-(-side // 1000),) * 2)[:side, :side]
    whole[: side // 4, : side // 4] += 100
    return whole


def tiled(path: Path, image: NDArray[np.uint8]) -> None:
    tifffile.imwrite(path, image, tile=(512, 512), compression="zlib", compressionargs={"level": 1})


def striped(path: Path, image: NDArray[np.uint8]) -> None:
    tifffile.imwrite(path, image, compression="lzw", rowsperstrip=64)


def png(path: Path, image: NDArray[np.uint8]) -> None:
    Image.fromarray(image).save(path, compress_level=1)


def mrc(path: Path, image: NDArray[np.uint8]) -> None:
    with mrcfile.new(path) as file:
        file.set_data((image.astype(np.int16) - 128).astype(np.int8))


WRITERS = {"tiled.tif": tiled, "striped.tif": striped, "grey.png": png, "a.mrc": mrc}
SIDES = [pytest.param(SMALLER, marks=pytest.mark.slow), pytest.param(LARGEST, marks=pytest.mark.fuzz)]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", WRITERS)
def test_intake_of_a_large_slice_takes_at_most_300_mb_and_one_and_a_half_slices(
    tmp_path: Path, side: int, name: str
) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("Only Linux tells the most memory that a process has had.")
    WRITERS[name](tmp_path / name, pixels(side))
    decoder = Decoder()
    try:
        began = time.monotonic()
        [page] = decoder.inspect_file(tmp_path / name, name=name, mask=False, thumbnails=tmp_path, size=160)
        took, most = time.monotonic() - began, peak(decoder._started().pid)
    finally:
        decoder.close()
    print(f"{name} of {side:,} x {side:,}: {took:.1f} s, {most / MB:.0f} MB")
    assert (page["width"], page["height"]) == (side, side)
    assert most <= 300 * MB + 1.5 * side**2
    shown = np.asarray(Image.open(tmp_path / page["thumbnail"]).convert("L")).astype(int)
    assert shown[20, 20] - shown[140, 140] > 90, "the thumbnail shows the corner"


@pytest.mark.parametrize("side", SIDES)
def test_tiles_of_a_large_slice_are_quick_and_cost_the_server_no_memory(
    seen_by: Seen, project: Project, alice: User, tmp_path: Path, side: int
) -> None:
    image = pixels(side)
    tiled(tmp_path / "large.tif", image)
    shutil.rmtree(Path(settings.DATA) / "pyramids", ignore_errors=True)
    item = services.dataset_from_folder(project=project, name="Large", folder=tmp_path, user=alice).all_items.get()
    client, me = seen_by(alice), psutil.Process()

    def timed(address: str) -> tuple[float, bytes]:
        began = time.perf_counter()
        content = client.get(address).content
        return time.perf_counter() - began, content

    client.get(f"/items/{item.pk}/thumbnail.webp")  # what is imported at the first request counts for nothing
    before = me.memory_info().rss
    first, _ = timed(f"/items/{item.pk}/tiles/0/0-0.png")
    last = side // 512
    places = [(n * 7 % last, n * 11 % last) for n in range(60)]
    took = []
    for column, row in places:
        seconds, content = timed(f"/items/{item.pk}/tiles/0/{column}-{row}.png")
        took.append(seconds)
        left, top = 512 * column, 512 * row
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), image[top : top + 512, left : left + 512])
    grown = me.memory_info().rss - before
    middle = statistics.median(took)
    print(f"{side:,} x {side:,}: laid down in {first:.1f} s, a tile in {1000 * middle:.0f} ms, {grown / MB:+.0f} MB")
    assert grown < 60 * MB
    assert middle < 0.1
    assert max(took) < first
