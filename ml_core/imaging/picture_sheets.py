"""Renders the sheets of pictures that jobs report: rows of panels with headings. Uses NumPy and Pillow only.

Greys are (H, W) uint8, pictures (H, W, 3) uint8, class maps (H, W) integers with 0 for background, activation maps
(H, W) float in 0..1. The colours are distinct from each other and from every grey for all common colour vision
deficiencies; `docs/contracts.md` describes each sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ml_core.job.files import write_whole

MASK = (0x56, 0xB4, 0xE9)
PREDICTION = (0xD5, 0x5E, 0x00)
CLASSES = (MASK, PREDICTION, (0xF0, 0xE4, 0x42), (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00))
"""Classes 1 to 5; later ones begin again."""

SURROUND = (0x1C, 0x1C, 0x1C)
_TEXT = (0xE6, 0xEB, 0xF1)
_MUTED = (0xA3, 0xAF, 0xBD)
_PANEL = 256
_GAP = 12
_TEXT_SIZE = 13
_LINE = 18

# Sixteen evenly spaced colours of viridis (S. van der Walt, N. Smith; CC0), joined by straight lines: within 2/255.
_VIRIDIS = (
    "440154 481a6c 472f7d 414487 39568c 31688e 2a788e 23888e 1f988b 22a884 35b779 54c568 7ad151 a5db36 d2e21b fde725"
)
# Over a grey image: orange to yellow, since the middle of viridis is grey to some eyes.
_WARM = "ed6925 fb9b06 f7d13d"
_WARM_ALPHA = 0.75


def ramp(values: np.ndarray, colours: str = _VIRIDIS) -> np.ndarray:
    """Maps `values` (H, W) in 0..1 to a ramp of hexadecimal colours, by default viridis."""
    stops = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in colours.split()], dtype=np.float64)
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(values, at, stops[:, i]) for i in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def grey_picture(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


def classes_over(grey: np.ndarray, classes: np.ndarray, *, colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Each class of the map tinted over the image, with an outline in full colour and a black casing around it."""
    picture = grey_picture(grey).astype(np.float64)
    for value in np.unique(classes[classes > 0]):
        inside = classes == value
        colour = np.array(colours[(int(value) - 1) % len(colours)], dtype=np.float64)
        picture[inside] = 0.65 * picture[inside] + 0.35 * colour
        picture[_dilated(inside) & ~inside] = 0
        picture[inside & ~_eroded(_eroded(inside))] = colour
    return picture.round().astype(np.uint8)


def errors_over(grey: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Missed foreground hatched at 45 degrees in the mask's colour, invented foreground solid in the prediction's.

    A pixel of a wrong class is both: hatched upon solid. Correct pixels are not marked.
    """
    picture = grey_picture(grey)
    missed = (truth > 0) & (prediction != truth)
    invented = (prediction > 0) & (prediction != truth)
    rows, columns = np.indices(grey.shape)
    picture[invented] = PREDICTION
    picture[missed & ((rows + columns) % 6 < 3)] = MASK
    return picture


def cam_over(grey: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """The map over the image: clear at 0 to three quarters opaque at 1, with lines at 50 and 80 % of its maximum."""
    alpha = (_WARM_ALPHA * cam)[..., None]
    picture = (1 - alpha) * grey_picture(grey) + alpha * ramp(cam, _WARM)
    for level, colour in ((0.5, 0), (0.8, 255)):
        inside = cam >= level
        picture[inside & ~_eroded(inside)] = colour
    return picture.round().astype(np.uint8)


def viridis_with_bar(cam: np.ndarray) -> np.ndarray:
    """The map alone in viridis, its bar with figures beside it."""
    height, width = cam.shape
    bar = np.repeat(ramp(np.linspace(1, 0, height))[:, None] if height else np.zeros((0, 1, 3)), 12, axis=1)
    canvas = Image.new("RGB", (width + 52, height), SURROUND)
    canvas.paste(Image.fromarray(ramp(cam)), (0, 0))
    canvas.paste(Image.fromarray(bar.astype(np.uint8)), (width + 8, 0))
    draw = ImageDraw.Draw(canvas)
    for share, top in ((1.0, 0), (0.5, (height - _TEXT_SIZE) // 2), (0.0, height - _TEXT_SIZE - 2)):
        draw.text((width + 24, top), f"{share:.1f}", fill=_MUTED, font=_font())
    return np.asarray(canvas)


@dataclass(frozen=True)
class Sample:
    """One item of a `sample` sheet, all pictures of one size; `caption` is printed under its row."""

    grey: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    caption: str


def sample_sheet(samples: Sequence[Sample], *, classes: int) -> Sheet:
    """Rows of image, mask, prediction, errors. With one foreground class, mask and prediction differ in colour."""
    mask, prediction = ((MASK,), (PREDICTION,)) if classes == 2 else (CLASSES, CLASSES)
    rows = []
    for sample in samples:
        grey = fitted(sample.grey)
        truth, predicted = (fitted(m.astype(np.uint8), labels=True) for m in (sample.truth, sample.prediction))
        rows.append(
            [
                grey_picture(grey),
                classes_over(grey, truth, colours=mask),
                classes_over(grey, predicted, colours=prediction),
                errors_over(grey, truth, predicted),
            ]
        )
    headings = ("image", "mask", "prediction", "errors: missed hatched, invented solid")
    return sheet(rows, headings=headings, captions=[s.caption for s in samples])


def colour_pairs_sheet(pairs: Sequence[tuple[np.ndarray, np.ndarray]], *, names: Sequence[str], origin: str) -> Sheet:
    """One column per item, its grey above its colour; each pair is a grey and a picture of the same size."""
    rows = [[grey_picture(fitted(grey)) for grey, _ in pairs], [fitted(colour) for _, colour in pairs]]
    return sheet(rows, headings=names, captions=("Grey", f"With its colour ({origin})"))


def cam_sheet(grey: np.ndarray, cam: np.ndarray, random_cam: np.ndarray, *, caption: str) -> Sheet:
    """One row: image, map with bar, map over the image, the same map from random weights."""
    small = fitted(grey)
    cams = [fitted((c * 255).round().astype(np.uint8), smooth=True) / 255 for c in (cam, random_cam)]
    row = [grey_picture(small), viridis_with_bar(cams[0]), cam_over(small, cams[0]), viridis_with_bar(cams[1])]
    headings = ("image", "map, scaled to its maximum", "over the image, lines at 50, 80 %", "same, from random weights")
    return sheet([row], headings=headings, captions=[caption])


def fitted(picture: np.ndarray, *, labels: bool = False, smooth: bool = False) -> np.ndarray:
    """Resizes a uint8 picture to panel size: the longer side at most 256 px, a small one enlarged by whole factors.

    Labels take the nearest pixel and are never mixed. Enlarged greys keep square pixels, unless `smooth`.
    """
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest > _PANEL:
        size = (max(1, round(width * _PANEL / longest)), max(1, round(height * _PANEL / longest)))
        method = Image.Resampling.NEAREST if labels else Image.Resampling.BOX
    else:
        factor = _PANEL // longest
        size = (width * factor, height * factor)
        method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size, method))


@dataclass(frozen=True)
class Strip:
    """A row or a column of a sheet: its offset and its length, both in px, and its text."""

    start: int
    length: int
    words: str


@dataclass(frozen=True)
class Sheet:
    """A picture of panels with text on it, and the positions of its panels: a page crops the panels and shows the text
    as HTML, as text in the picture shrinks with it."""

    picture: Image.Image
    rows: list[Strip]
    columns: list[Strip]

    def panels(self) -> dict[str, Any]:
        """The panels' positions as facts of the sheet's artifact (docs/contracts.md)."""
        return {
            "size": list(self.picture.size),
            "rows": [asdict(row) for row in self.rows],
            "columns": [asdict(column) for column in self.columns],
        }


def sheet(rows: Sequence[Sequence[np.ndarray]], *, headings: Sequence[str], captions: Sequence[str]) -> Sheet:
    """Renders panels in rows under headings, with a caption under each row; text that is too long is shortened in the
    picture and complete in the sheet's strips."""
    columns = _strips([max(row[i].shape[1] for row in rows) for i in range(len(headings))], words=headings, first=_GAP)
    under = _LINE if any(captions) else 0
    heights = [max(panel.shape[0] for panel in row) for row in rows]
    lines = _strips(heights, words=captions, first=_LINE + 8, between=under + _GAP)
    width = columns[-1].start + columns[-1].length + _GAP
    canvas = Image.new("RGB", (width, lines[-1].start + lines[-1].length + under + _GAP), SURROUND)
    draw = ImageDraw.Draw(canvas)
    for column in columns:
        draw.text((column.start, 6), _shortened(column.words, column.length), fill=_TEXT, font=_font())
    for row, line in zip(rows, lines, strict=True):
        for panel, column in zip(row, columns, strict=True):
            canvas.paste(Image.fromarray(panel), (column.start, line.start))
        if under:
            caption = _shortened(line.words, width - 2 * _GAP)
            draw.text((_GAP, line.start + line.length + 3), caption, fill=_MUTED, font=_font())
    return Sheet(canvas, rows=lines, columns=columns)


def _strips(lengths: Sequence[int], *, words: Sequence[str], first: int, between: int = _GAP) -> list[Strip]:
    """Consecutive strips of these lengths, the first at the offset `first`."""
    found = []
    for length, said in zip(lengths, words, strict=True):
        found.append(Strip(first, length, said))
        first += length + between
    return found


def write_png(picture: Image.Image | np.ndarray, path: Path) -> Path:
    """Writes `path` atomically and returns it."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    write_whole(path, lambda file: image.save(file, format="PNG"))
    return path


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT_SIZE)


def _shortened(text: str, room: int) -> str:
    font = _font()
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def _eroded(inside: np.ndarray) -> np.ndarray:
    """Removes the pixels that share an edge with the outside; beyond the image's border counts as inside."""
    padded = np.pad(inside, 1, constant_values=True)
    return inside & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]


def _dilated(inside: np.ndarray) -> np.ndarray:
    return ~_eroded(~inside)
