"""Photographs for a colorizer: whole or in crops, as Lab; which of them have colour at all."""

from __future__ import annotations

import numpy as np
import torch
from skimage import color

from ml_core.data.photographs import Photographs, listed, with_colour


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
