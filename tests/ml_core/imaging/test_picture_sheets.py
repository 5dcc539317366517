"""Sheets show what they say, in colours that never mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml_core.imaging.picture_sheets import (
    CLASSES,
    MASK,
    PREDICTION,
    Sample,
    cam_over,
    cam_sheet,
    classes_over,
    colour_pairs_sheet,
    errors_over,
    fitted,
    grey_picture,
    ramp,
    sample_sheet,
    sheet,
    write_png,
)

GREY = np.full((40, 40), 120, dtype=np.uint8)


def _square(top: int, left: int, side: int, value: int = 1) -> np.ndarray:
    classes = np.zeros((40, 40), dtype=np.uint8)
    classes[top : top + side, left : left + side] = value
    return classes


def test_viridis_is_within_two_levels_of_the_published_map_and_grows_lighter_all_the_way() -> None:
    colours = ramp(np.linspace(0, 1, 256)[None])[0].astype(int)
    # Entries 0, 64, 128 and 255 of the published table of 256.
    for index, published in ((0, (68, 1, 84)), (64, (59, 82, 139)), (128, (33, 145, 140)), (255, (253, 231, 37))):
        assert np.abs(colours[index] - published).max() <= 2
    assert (np.diff(colours @ [0.2126, 0.7152, 0.0722]) > -0.5).all()


def test_agreement_is_left_bare_missed_is_hatched_and_invented_is_solid() -> None:
    truth, prediction = _square(5, 5, 20), _square(5, 15, 20)
    picture = errors_over(GREY, truth, prediction)
    missed, invented = (truth > 0) & (prediction == 0), (prediction > 0) & (truth == 0)
    both = (truth > 0) & (prediction > 0)
    is_mask, is_prediction = (picture == MASK).all(-1), (picture == PREDICTION).all(-1)
    assert (picture[both] == 120).all()
    assert is_prediction[invented].all()
    assert 0.4 < is_mask[missed].mean() < 0.6
    assert not is_mask[~missed].any()
    assert not is_prediction[~invented].any()


def test_a_wrong_class_is_shown_as_missed_and_invented() -> None:
    picture = errors_over(GREY, _square(5, 5, 20, 1), _square(5, 5, 20, 2))
    inside = picture[5:25, 5:25].reshape(-1, 3)
    assert {tuple(int(v) for v in c) for c in inside} == {MASK, PREDICTION}


def test_each_class_has_its_own_outline_colour_with_a_black_casing() -> None:
    picture = classes_over(GREY, _square(3, 3, 10, 1) + _square(25, 25, 10, 3), colours=CLASSES)
    assert tuple(picture[3, 8]) == CLASSES[0]
    assert tuple(picture[25, 30]) == CLASSES[2]
    assert tuple(picture[2, 8]) == (0, 0, 0)
    assert tuple(picture[20, 20]) == (120, 120, 120)


def test_a_cam_of_zero_leaves_the_image_as_it_is() -> None:
    assert (cam_over(GREY, np.zeros((40, 40)))[:] == 120).all()


@pytest.mark.parametrize("shape", [(768, 1024), (64, 64), (300, 100), (20, 700)])
def test_a_panel_fits_without_a_change_of_its_proportions(shape: tuple[int, int]) -> None:
    panel = fitted(np.zeros(shape, dtype=np.uint8))
    assert max(panel.shape) <= 256
    assert panel.shape[0] * shape[1] == pytest.approx(panel.shape[1] * shape[0], rel=0.05)


def test_labels_are_never_mixed_by_resizing() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 7, 200], dtype=np.uint8), size=(500, 333))
    assert set(np.unique(fitted(labels, labels=True))) <= {0, 7, 200}


def test_sheets_of_any_size_and_caption_are_written_as_png(tmp_path: Path) -> None:
    small = np.zeros((16, 16), dtype=np.uint8)
    sheets = (
        sample_sheet(
            [Sample(GREY, _square(1, 1, 9), _square(2, 2, 9), "x" * 500), Sample(small, small, small, "")], classes=2
        ),
        colour_pairs_sheet([(GREY, np.zeros((40, 40, 3), dtype=np.uint8))], names=["slice_0001"], origin="structured"),
        cam_sheet(GREY, np.random.default_rng(0).random((40, 40)), np.zeros((40, 40)), caption="layer4"),
    )
    for number, made in enumerate(sheets):
        path = write_png(made.picture, tmp_path / "artifacts" / f"{number}.png")
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.size == made.picture.size


def test_a_sheet_says_where_its_panels_lie_and_what_they_show_in_whole_words() -> None:
    levels = [[np.full((30, 20 + 10 * n), 50 * row + 10 * n, dtype=np.uint8) for n in range(3)] for row in range(2)]
    long = "micrograph " * 20
    made = sheet([[grey_picture(p) for p in row] for row in levels], headings=["a", "b", "c"], captions=["first", long])
    panels = made.panels()
    assert [row["words"] for row in panels["rows"]] == ["first", long], "the picture's own words are shortened"
    assert [column["words"] for column in panels["columns"]] == ["a", "b", "c"]
    assert panels["size"] == list(made.picture.size)
    pixels = np.asarray(made.picture)[..., 0]
    for shown, row in zip(levels, panels["rows"], strict=True):
        for panel, column in zip(shown, panels["columns"], strict=True):
            down = slice(row["start"], row["start"] + row["length"])
            across = slice(column["start"], column["start"] + column["length"])
            assert (pixels[down, across] == panel).all()
