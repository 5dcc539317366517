"""Large images are shown by tiles whose pixels are the file's own, made once and cut in an instant."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from django.conf import settings
from numpy.typing import NDArray
from PIL import Image

from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from webapp.datasets.intake import services
from webapp.datasets.models import Dataset, Item
from webapp.datasets.pictures import pyramids
from webapp.datasets.pictures.pyramids import TILE, levels_of, pyramid_of
from webapp.projects.models import Project, User

__all__ = ["seen_by"]

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

WIDTH, HEIGHT = 9001, 1203
DEEP = np.random.default_rng(1).integers(0, 60_000, (HEIGHT, WIDTH), dtype=np.uint16)


@pytest.fixture
def large(project: Project, alice: User, tmp_path: Path) -> Item:
    tifffile.imwrite(tmp_path / "large.tif", DEEP)
    shutil.rmtree(Path(settings.DATA) / "pyramids", ignore_errors=True)  # That of an earlier test is of the same image.
    return services.dataset_from_folder(project=project, name="Large", folder=tmp_path, user=alice).all_items.get()


def grey(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_pyramid_halves_until_it_fits_into_a_tile(large: Item) -> None:
    pyramid = pyramid_of(large)
    shapes = [pyramid.level(n).shape for n in range(pyramid.levels)]
    assert pyramid.levels == levels_of(WIDTH, HEIGHT) == 6
    assert shapes[:3] == [(HEIGHT, WIDTH), (602, 4501), (301, 2251)]
    assert max(shapes[-1]) <= TILE
    assert np.array_equal(pyramid.level(0), DEEP)
    whole = DEEP[:1202, :9000].astype(np.float64).reshape(601, 2, 4500, 2).mean(axis=(1, 3))
    assert np.abs(pyramid.level(1)[:601, :4500] - whole).max() <= 0.5
    assert pyramid.level(1)[601, 4500] == DEEP[-1, -1]


def test_tiles_hold_the_files_own_pixels_in_the_window_that_is_asked_for(
    seen_by: Seen, large: Item, alice: User
) -> None:
    client = seen_by(alice)
    tile = grey(client.get(f"/items/{large.pk}/tiles/0/17-2.png?low=0&high=65535").content)
    corner = DEEP[2 * TILE :, 17 * TILE :]
    assert tile.shape == corner.shape == (1203 - 1024, 9001 - 8704)
    assert np.array_equal(tile, np.rint(corner.astype(np.float64) / 257).astype(np.uint8))
    turned = grey(client.get(f"/items/{large.pk}/tiles/0/17-2.png?low=65535&high=0").content)
    assert np.abs(turned.astype(int) + tile - 255).max() <= 1
    reduced = grey(client.get(f"/items/{large.pk}/image.png?max=3000").content)
    assert reduced.shape == (301, 2251)


@pytest.mark.parametrize("place", ["0/18-0", "0/0-3", "6/0-0"])
def test_there_is_no_tile_outside_of_the_image(seen_by: Seen, large: Item, alice: User, place: str) -> None:
    assert seen_by(alice).get(f"/items/{large.pk}/tiles/{place}.png").status_code == 404


def test_a_pyramid_is_made_once_and_not_by_half(
    large: Item, seen_by: Seen, alice: User, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"/items/{large.pk}/tiles/5/0-0.png"
    assert seen_by(charlie).get(address).status_code == 404

    with monkeypatch.context() as patch:
        patch.setattr(pyramids, "SECONDS", 0)
        with pytest.raises(subprocess.TimeoutExpired):
            pyramid_of(large)
    assert [path.name for path in (Path(settings.DATA) / "pyramids").iterdir() if path.is_dir()] == []
    first = seen_by(alice).get(address)
    assert first.status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(pyramids, "SECONDS", 0)
        assert seen_by(alice).get(address).content == first.content


def test_the_histogram_of_a_large_image_counts_pixels_as_they_are(seen_by: Seen, large: Item, alice: User) -> None:
    told = seen_by(alice).get(f"/items/{large.pk}/histogram.json").json()
    some = DEEP[::2, ::2]  # 10.8 million pixels, of which 4 million are enough
    assert sum(told["counts"]) == some.size
    assert (told["least"], told["greatest"]) == (some.min(), some.max())


@pytest.fixture
def photograph(project: Project, alice: User, tmp_path: Path) -> Item:
    colours = np.random.default_rng(2).integers(0, 40, (700, 8300, 3), dtype=np.uint8)
    colours[..., 0] += 200
    colours[:, 4000:, 2] += 180
    Image.fromarray(colours).save(tmp_path / "large.png")
    made = services.dataset_from_folder(project=project, name="Photographs", folder=tmp_path, user=alice)
    Dataset.objects.filter(pk=made.pk).update(kind=Dataset.Kind.PHOTOGRAPHS)
    return made.all_items.get()


def test_tiles_of_a_large_photograph_are_in_colour_at_every_level(
    seen_by: Seen, photograph: Item, alice: User, tmp_path: Path
) -> None:
    client = seen_by(alice)
    colours = np.asarray(Image.open(tmp_path / "large.png"))
    tile = grey(client.get(f"/items/{photograph.pk}/tiles/0/7-1.png").content)
    assert np.array_equal(tile, colours[TILE:, 7 * TILE : 8 * TILE])
    small = grey(client.get(f"/items/{photograph.pk}/tiles/5/0-0.png").content)
    assert small.shape == (22, 260, 3)
    assert abs(int(small[5, 5, 0]) - 220) < 5
    assert abs(int(small[5, 250, 2]) - 200) < 5
    assert grey(client.get(f"/items/{photograph.pk}/image.png?max=600").content).shape == (44, 519, 3)
    assert sum(client.get(f"/items/{photograph.pk}/histogram.json").json()["counts"]) > 1_000_000
    Dataset.objects.update(kind=Dataset.Kind.MICROGRAPHS)
    assert grey(client.get(f"/items/{photograph.pk}/tiles/0/7-1.png").content).shape == (188, TILE)


def test_the_mask_of_a_large_image_is_read_once_and_its_values_are_never_mixed(
    project: Project, seen_by: Seen, alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((300, 9000), np.uint8)
    mask[100:200, 3001:8000] = 7
    for folder, pixels in (("images", DEEP[:300, :9000]), ("masks", mask)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", pixels)
    item = services.dataset_from_folder(project=project, name="Large", folder=tmp_path, user=alice).all_items.get()
    address = f"/items/{item.pk}/masks/mask.png"
    first = seen_by(alice).get(address)
    assert np.array_equal(grey(first.content), mask[::2, ::2])
    monkeypatch.setattr(pyramids, "SECONDS", 0)
    assert seen_by(alice).get(address).content == first.content


def test_an_image_that_a_browser_holds_has_no_tiles(
    project: Project, seen_by: Seen, alice: User, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    small = services.dataset_from_folder(project=project, name="Small", folder=tmp_path, user=alice).all_items.get()
    assert seen_by(alice).get(f"/items/{small.pk}/tiles/0/0-0.png").status_code == 404
