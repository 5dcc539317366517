"""Photographs for a colorizer: whole or in crops, as Lab; which of them have colour at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import color

from ml_core.data.arrays import prepare
from ml_core.data.formats import readers
from ml_core.data.loading.photograph_data import Photographs, listed, with_colour
from ml_core.data.manifests import folder_manifest
from ml_core.errors import UserError


def _photographs(*, count: int = 3, size: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def test_whole_photographs_come_as_the_lab_of_scikit_image() -> None:
    array = _photographs()
    lab = Photographs(array, device=torch.device("cpu")).whole(np.array([2, 0]))
    assert lab.shape == (2, 3, 24, 24)
    assert np.abs(lab.permute(0, 2, 3, 1).numpy() - color.rgb2lab(array[[2, 0]])).max() < 1e-3


def test_a_crop_is_a_square_of_its_photograph_mirrored_or_not() -> None:
    array = _photographs(count=2)
    photographs = Photographs(array, device=torch.device("cpu"))
    whole = photographs.whole(np.array([0, 1]))
    torch.manual_seed(0)
    seen = set()
    for _ in range(30):
        crops = photographs.crops(np.array([1, 0]), size=16)
        for crop, source in zip(crops, whole.flip(0), strict=True):
            [place] = [
                (top, left, mirrored)
                for top in range(9)
                for left in range(9)
                for mirrored in (False, True)
                if torch.equal(crop.flip(2) if mirrored else crop, source[:, top : top + 16, left : left + 16])
            ]
            seen.add(place)
    tops, lefts, mirrors = (set(values) for values in zip(*seen, strict=True))
    assert tops == lefts == set(range(9)), "every place, the last one too"
    assert mirrors == {False, True}


def test_the_same_seed_cuts_the_same_crops_and_each_photograph_its_own() -> None:
    photographs = Photographs(_photographs(), device=torch.device("cpu"))
    torch.manual_seed(5)
    first = photographs.crops(np.array([0, 0, 0, 0]), size=8)
    torch.manual_seed(5)
    assert torch.equal(photographs.crops(np.array([0, 0, 0, 0]), size=8), first)
    assert len({crop.numpy().tobytes() for crop in first}) > 1


def test_a_crop_may_be_the_whole_photograph() -> None:
    photographs = Photographs(_photographs(count=1), device=torch.device("cpu"))
    [crop], [whole] = photographs.crops(np.array([0]), size=24), photographs.whole(np.array([0]))
    assert torch.equal(crop, whole) or torch.equal(crop.flip(2), whole)


def test_grey_pictures_and_their_noise_have_no_colour() -> None:
    grey = np.repeat(_photographs()[..., :1], 3, axis=-1)
    noisy = (grey // 2 + 20 + np.random.default_rng(1).integers(-4, 5, grey.shape)).astype(np.uint8)
    array = np.stack([grey[0], noisy[1], _photographs()[2]])
    assert with_colour(array).tolist() == [False, False, True]


def test_names_are_listed_up_to_a_point() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(n) for n in range(8)]) == "0, 1, 2, 3, 4 and 3 more"


COLOUR = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)


def _png(path: Path, *, mode: str) -> None:
    picture = Image.fromarray(COLOUR)
    (picture.quantize(256) if mode == "P" else picture.convert(mode)).save(path)


def test_colours_are_read_as_they_are_grey_is_repeated_and_transparency_left_out(tmp_path: Path) -> None:
    for mode in ("RGB", "RGBA"):
        _png(tmp_path / "a.png", mode=mode)
        assert np.array_equal(readers.read_colour(tmp_path / "a.png"), COLOUR)
    for mode in ("L", "LA"):
        _png(tmp_path / "a.png", mode=mode)
        grey = np.asarray(Image.fromarray(COLOUR).convert("L"))
        assert np.array_equal(readers.read_colour(tmp_path / "a.png"), np.stack([grey] * 3, axis=-1))
    _png(tmp_path / "a.png", mode="P")
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(readers.read_colour(tmp_path / "a.png"), np.asarray(picture.convert("RGB")))
    deep = COLOUR.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    assert np.array_equal(readers.read_colour(tmp_path / "deep.tif"), deep)


def test_photographs_are_prepared_as_squares_of_their_colours_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    Image.fromarray(COLOUR).save(folder / "b.png")
    plain = np.full((24, 24, 3), (200, 40, 90), np.uint8)
    Image.fromarray(plain).save(folder / "a.png")
    deep = np.zeros((16, 16, 3), np.uint16)
    deep[:, 8:] = (60_000, 30_000, 0)
    tifffile.imwrite(folder / "c.tif", deep, photometric="rgb")
    found = prepare.prepare_colour(folder_manifest.from_folder(folder), blobs=None, root=tmp_path / "prepared", size=24)
    assert found.array.shape == (3, 24, 24, 3)
    assert np.array_equal(found.array[0], plain)
    assert np.array_equal(
        found.array[1], np.asarray(Image.fromarray(COLOUR).resize((24, 24), Image.Resampling.BILINEAR))
    )
    red, green, blue = found.array[2, 12, 20].tolist()
    assert red > green > blue == 0


def test_the_colours_of_a_dataset_are_not_taken_for_its_greys(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(COLOUR).save(tmp_path / "set" / "a.png")
    listed_images = folder_manifest.from_folder(tmp_path / "set")
    root = tmp_path / "prepared"
    colour = prepare.prepare_colour(listed_images, blobs=None, root=root, size=16)
    grey = prepare.prepare(listed_images, blobs=None, root=root, size=16)
    assert (colour.array.shape, grey.array.shape) == ((1, 16, 16, 3), (1, 16, 16))
    assert colour.key != grey.key


def test_a_photograph_of_another_size_than_the_dataset_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(COLOUR).save(tmp_path / "set" / "a.png")
    listed_images = folder_manifest.from_folder(tmp_path / "set")
    Image.fromarray(COLOUR[:10]).save(tmp_path / "set" / "a.png")
    with pytest.raises(UserError, match="30 x 10 px"):
        prepare.prepare_colour(listed_images, blobs=None, root=tmp_path / "prepared", size=16)
