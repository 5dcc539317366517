"""Images with bright and dark exchanged are told from the others, and nothing is said where nothing can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ml_core.data import synthetic
from ml_core.imaging.inverted_contrast import AT_LEAST, contrast_features, inverted_among

Tones = NDArray[np.float64]


def tones(count: int, *, seed: int = 0) -> Tones:
    return np.array([contrast_features(synthetic.micrograph(seed + n, size=96)[0]) for n in range(count)])


def test_to_invert_an_image_turns_the_sign_of_each_figure() -> None:
    grey, _ = synthetic.micrograph(3, size=96)
    assert np.allclose(contrast_features(grey), -np.array(contrast_features(255 - grey)), atol=0.02)
    assert contrast_features(np.full((64, 64), 90, np.uint8)) == []


@pytest.mark.parametrize("group", ["stack A", ""])
def test_those_that_were_inverted_are_found_and_no_other(group: str) -> None:
    all_tones = tones(24)
    assert inverted_among(all_tones, [group] * 24) == {}
    all_tones[[2, 9, 17]] *= -1
    found = inverted_among(all_tones, [group] * 24)
    assert sorted(found) == [2, 9, 17]
    assert {(each.group, each.others) for each in found.values()} == {(group, 23)}
    assert all(each.here * each.usual < 0 for each in found.values())


def test_nothing_is_said_of_too_few_of_half_and_half_or_of_noise() -> None:
    few = tones(AT_LEAST - 1)
    few[0] *= -1
    assert inverted_among(few, [""] * len(few)) == {}
    half = tones(20)
    half[::2] *= -1
    assert inverted_among(half, ["s"] * 20) == {}
    noise = np.random.default_rng(1)
    of_noise = np.array([contrast_features(noise.integers(0, 256, (96, 96)).astype(np.uint8)) for _ in range(40)])
    assert inverted_among(of_noise, [""] * 40) == {}


def test_a_stack_is_compared_with_itself_whatever_the_others_look_like() -> None:
    both = np.concatenate([tones(30), -tones(10, seed=100)])
    groups = ["usual"] * 30 + ["other stain"] * 10
    both[35] *= -1
    found = inverted_among(both, groups)
    assert found[35].group == "other stain"
    assert {n for n in found if groups[n] == "usual"} == set()


@pytest.mark.slow
def test_in_stacks_of_real_micrographs_each_inverted_slice_is_found(real_data: Path) -> None:
    names = sorted((real_data / "lucchi" / "training" / "images").iterdir())
    real = np.array([contrast_features(np.asarray(Image.open(name).convert("L").reduce(4))) for name in names])
    assert inverted_among(real, ["training"] * len(real)) == {}
    for place in range(len(real)):
        one = real.copy()
        one[place] *= -1
        assert list(inverted_among(one, ["training"] * len(real))) == [place]
