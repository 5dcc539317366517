"""What a browser gets to see of an item."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from django.core.files.storage import default_storage
from django.test import Client
from PIL import Image

from webapp.datasets.intake import services
from webapp.datasets.models import Item
from webapp.projects.models import Project, User

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

RAMP = np.linspace(1000, 41000, 48 * 80).reshape(48, 80).astype(np.uint16)


@pytest.fixture
def item(project: Project, tmp_path: Path) -> Item:
    """A 16-bit image with a mask of the values 0 and 255."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", RAMP)
    drawn = np.zeros(RAMP.shape, np.uint8)
    drawn[:10, :20] = 255
    Image.fromarray(drawn).save(tmp_path / "masks" / "a.png")
    dataset = services.dataset_from_folder(project=project, name="Ramp", folder=tmp_path)
    return dataset.revisions.get().items.get()


@pytest.fixture
def seen(client: Client, vera: User) -> Client:
    client.force_login(vera)
    return client


def pixels(response: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(response.content)))


def test_a_16_bit_image_is_never_black_and_fills_the_range(seen, item):
    shown = pixels(seen.get(f"/items/{item.pk}/image.png"))
    assert shown.dtype == np.uint8
    assert shown.shape == RAMP.shape
    assert (shown.min(), shown.max()) == (0, 255)
    assert abs(float(shown.mean()) - 127.5) < 2


def test_the_window_is_in_the_files_own_units(seen, item):
    shown = pixels(seen.get(f"/items/{item.pk}/image.png?low=1000&high=21000"))
    assert (shown[RAMP >= 21000] == 255).all()
    assert shown[0, 0] == 0
    assert seen.get(f"/items/{item.pk}/image.png?low=5&high=5").status_code == 400


def test_a_large_image_is_shown_at_a_whole_fraction_of_its_size(seen, item):
    assert pixels(seen.get(f"/items/{item.pk}/image.png?max=40")).shape == (24, 40)
    assert pixels(seen.get(f"/items/{item.pk}/masks/mask.png?max=40")).shape == (24, 40)


def test_a_mask_is_bytes_of_class_values_or_an_overlay_in_colours(seen, item):
    values = pixels(seen.get(f"/items/{item.pk}/masks/mask.png"))
    assert values.shape == RAMP.shape
    assert set(np.unique(values)) == {0, 255}
    overlay = pixels(seen.get(f"/items/{item.pk}/masks/mask.png?overlay=1"))
    assert tuple(overlay[0, 0][:3]) == (0x56, 0xB4, 0xE9)
    assert overlay[40, 40][3] == 0
    assert seen.get(f"/items/{item.pk}/masks/other.png").status_code == 404


def test_the_histogram_counts_every_pixel_between_least_and_greatest(seen, item):
    told = seen.get(f"/items/{item.pk}/histogram.json").json()
    assert sum(told["counts"]) == RAMP.size
    assert len(told["counts"]) == 256
    assert (told["from"], told["to"], told["least"], told["greatest"]) == (1000, 41000, 1000, 41000)
    assert told["low"] > 1000
    assert told["high"] < 41000
    assert told["dtype"] == "uint16"


def test_the_thumbnail_is_a_webp_of_our_own(seen, item):
    response = seen.get(f"/items/{item.pk}/thumbnail.webp")
    assert response["Content-Type"] == "image/webp"
    assert response.content[8:12] == b"WEBP"


@pytest.mark.parametrize("name", ["image.png", "thumbnail.webp", "masks/mask.png", "histogram.json"])
def test_pictures_are_kept_by_their_asker_alone_and_never_sent_twice(seen, item, name):
    response = seen.get(f"/items/{item.pk}/{name}")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "private" in response["Cache-Control"]
    assert "immutable" in response["Cache-Control"]
    assert "sandbox" in response["Content-Security-Policy"]
    again = seen.get(f"/items/{item.pk}/{name}", headers={"If-None-Match": response["ETag"]})
    assert again.status_code == 304
    assert not again.content


@pytest.mark.parametrize("name", ["image.png", "thumbnail.webp", "masks/mask.png", "histogram.json"])
def test_a_stranger_sees_no_picture(client, item, charlie, name):
    assert client.get(f"/items/{item.pk}/{name}").status_code == 302
    client.force_login(charlie)
    assert client.get(f"/items/{item.pk}/{name}").status_code == 404


@pytest.mark.parametrize("name", ["image.png", "thumbnail.webp", "masks/mask.png", "histogram.json"])
def test_a_file_that_was_lost_is_not_found_and_breaks_no_page(seen, item, name):
    for sha256 in (item.image, item.thumbnail, item.masks["mask"]["sha256"]):
        Path(default_storage.path(sha256)).unlink()
    assert seen.get(f"/items/{item.pk}/{name}").status_code == 404
    assert seen.get(f"/items/{item.pk}/").status_code == 200
