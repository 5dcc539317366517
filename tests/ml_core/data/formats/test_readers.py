"""Files as microscopes and programs write them, and as attackers do."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ml_core.data.formats import png_jpeg as picture
from ml_core.data.formats import readers
from ml_core.data.formats.image_file import validated
from ml_core.data.formats.readers import Refused
from ml_core.imaging.windowing import coarse

GREY = np.random.default_rng(0).integers(0, 256, (40, 60)).astype(np.uint8)
DEEP = (np.random.default_rng(1).random((40, 60)) * 50_000 + 5_000).astype(np.uint16)


def png(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def tiff(path: Path, pixels: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


@pytest.mark.parametrize(
    ("name", "pixels", "options"),
    [
        ("grey.png", GREY, {}),
        ("deep.png", DEEP, {}),
        ("grey.tif", GREY, {}),
        ("deep.tif", DEEP, {}),
        ("big-endian.tif", DEEP, {"byteorder": ">"}),
        ("lzw.tif", GREY, {"compression": "lzw"}),
        ("zlib.tif", DEEP, {"compression": "zlib", "predictor": True}),
        ("tiled.tif", GREY, {"tile": (16, 16)}),
        ("big.tif", GREY, {"bigtiff": True}),
        ("float.tif", DEEP.astype(np.float32) / 7, {}),
        ("signed.tif", DEEP.astype(np.int16), {}),
        ("pale.tif", GREY, {"photometric": "minisblack"}),
    ],
)
def test_grey_files_come_back_pixel_for_pixel(tmp_path, name, pixels, options):
    path = (png if name.endswith("png") else tiff)(tmp_path / name, pixels, **options)
    header = readers.inspect(path)
    assert (header.width, header.height, header.pages) == (60, 40, 1)
    assert np.dtype(header.dtype) == pixels.dtype
    assert np.array_equal(readers.read(path), pixels)


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {"bigtiff": True}, {"contiguous": False}])
def test_every_slice_of_a_stack_comes_back_in_order(tmp_path, options):
    stack = np.stack([np.roll(DEEP, n) for n in range(7)])
    if "contiguous" in options:
        with tifffile.TiffWriter(tmp_path / "s.tif") as writer:
            for page in stack:
                writer.write(page, contiguous=False)
    else:
        kind = {"metadata": {"axes": "ZYX"}} if "bigtiff" not in options else {}
        tiff(tmp_path / "s.tif", stack, **options, **kind)
    assert readers.inspect(tmp_path / "s.tif").pages == 7
    for number, page in enumerate(stack):
        assert np.array_equal(readers.read(tmp_path / "s.tif", page=number), page)


def test_previews_and_pyramid_levels_are_no_slices(tmp_path):
    with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
        writer.write(GREY)
        writer.write(GREY[::2, ::2], subfiletype=1)
    header = readers.inspect(tmp_path / "p.tif")
    assert header.pages == 1
    assert "previews" in header.notes[0]


def test_grey_saved_as_colour_is_grey_and_true_colour_becomes_lightness(tmp_path):
    same = png(tmp_path / "same.png", np.stack([GREY] * 3, axis=-1))
    assert np.array_equal(readers.read(same), GREY)
    assert not readers.is_colour(same)
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 0] = 200
    assert (readers.read(png(tmp_path / "red.png", red)) == round(200 * 0.299)).all()
    assert readers.is_colour(tmp_path / "red.png")


@pytest.mark.parametrize("pixels", [DEEP, DEEP.astype(np.float32), np.full((9, 9), 500, np.uint16), DEEP // 40_000])
def test_a_deep_image_never_shows_black(tmp_path, pixels):
    path = tiff(tmp_path / "deep.tif", pixels)
    low, high = readers.window_of(path, readers.inspect(path))
    shown = readers.windowed(readers.read(path), low=low, high=high)
    assert low < high
    assert shown.max() > 100


def test_a_thin_bright_object_on_flat_ground_is_seen():
    pixels = np.full((100, 100), 900, np.uint16)
    pixels[50, 40:50] = 4000
    low, high = readers.window([pixels])
    assert readers.windowed(pixels, low=low, high=high)[50, 45] == 255


def test_not_a_number_is_black_and_spoils_nothing():
    pixels = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    pixels[0, 0] = np.nan
    low, high = readers.window([pixels])
    assert readers.windowed(pixels, low=low, high=high)[0, 0] == 0


@pytest.mark.parametrize(
    ("options", "nm"),
    [
        ({"resolution": (1e7 / 5, 1e7 / 5), "resolutionunit": "CENTIMETER"}, 5.0),
        ({"imagej": True, "resolution": (200, 200), "metadata": {"unit": "um"}}, 5.0),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 8, "PhysicalSizeXUnit": "nm"}}, 8.0),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1, 1), "resolutionunit": "NONE"}, None),
        ({}, None),
    ],
)
def test_pixel_size_is_taken_where_it_is_credible(tmp_path, options, nm):
    assert readers.inspect(tiff(tmp_path / "s.tif", GREY, **options)).pixel_size_nm == nm


def test_a_palette_of_greys_is_grey_values_and_one_of_colours_is_numbers(tmp_path):
    classes = (GREY > 128).astype(np.uint8)
    for name, palette, wanted in (("grey", [0, 0, 0, 255, 255, 255], {0, 255}), ("col", [0, 0, 0, 200, 0, 0], {0, 1})):
        picture = Image.fromarray(classes).convert("P")
        picture.putdata(classes.reshape(-1).tolist())
        picture.putpalette(palette)
        picture.save(tmp_path / f"{name}.png")
        assert set(np.unique(readers.read_mask(tmp_path / f"{name}.png"))) == wanted


def test_masks_of_one_bit_and_jpegs_are_two_values(tmp_path):
    Image.fromarray(GREY > 128).save(tmp_path / "bit.png")
    tiff(tmp_path / "bit.tif", GREY > 128)
    Image.fromarray(np.where(GREY > 128, 255, 0).astype(np.uint8)).save(tmp_path / "m.jpg", quality=60)
    for name in ("bit.png", "bit.tif", "m.jpg"):
        assert set(np.unique(readers.read_mask(tmp_path / name))) == {0, 255}


@pytest.mark.parametrize(
    ("pixels", "word"),
    [(np.full((4, 4), 700, np.uint16), "700"), (np.full((4, 4), 0.5, np.float32), "fractions")],
)
def test_a_mask_that_holds_no_classes_is_refused_with_the_value(tmp_path, pixels, word):
    with pytest.raises(Refused, match=word):
        readers.read_mask(tiff(tmp_path / "m.tif", pixels))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bombs(folder: Path) -> dict[str, bytes]:
    """Small files that claim to be huge, and files that are not what their names say."""
    start = b"\x89PNG\r\n\x1a\n"
    huge_png = start + chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)) + chunk(b"IEND", b"")
    tiff(folder / "t.tif", np.zeros((64, 64), np.uint8), compression="zlib")
    with tifffile.TiffFile(folder / "t.tif", mode="r+b") as file:
        for tag, value in (("ImageWidth", 60_000), ("ImageLength", 60_000), ("RowsPerStrip", 60_000)):
            file.pages[0].tags[tag].overwrite(value)
    tiff(folder / "r.tif", np.zeros((64, 64), np.uint8), compression="zlib")
    with tifffile.TiffFile(folder / "r.tif", mode="r+b") as file:
        for tag, value in (("ImageWidth", 14_000), ("ImageLength", 14_000)):
            file.pages[0].tags[tag].overwrite(value)
    tiff(folder / "tile.tif", np.zeros((64, 64), np.uint8), tile=(16, 16))
    with tifffile.TiffFile(folder / "tile.tif", mode="r+b") as file:
        for tag in ("TileWidth", "TileLength"):
            file.pages[0].tags[tag].overwrite(65_520 // 4)
    circle = bytearray((folder / "t.tif").read_bytes())
    return {
        "huge.png": huge_png,
        "huge.tif": (folder / "t.tif").read_bytes(),
        "tile.tif": (folder / "tile.tif").read_bytes(),
        "empty.png": b"",
        "text.png": b"<script>alert(1)</script>",
        "cut.png": start + b"\0\0",
        "cut.tif": bytes(circle[:20]),
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a.gif": b"GIF89a" + b"\0" * 40,
        "a.dm4": b"\0\0\0\4" + b"\0" * 60,
    }


def opened(path: Path) -> np.ndarray:
    readers.inspect(path, name=path.name)
    return readers.read(path)


def test_bombs_and_impostors_are_refused_by_their_headers_with_reason_and_remedy(tmp_path):
    for name, content in bombs(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Refused) as refused:
            opened(tmp_path / name)
        assert refused.value.reason.endswith("."), name
        assert refused.value.remedy.endswith("."), name


def test_a_format_that_is_not_read_is_answered_with_how_to_export_it(tmp_path):
    (tmp_path / "a.dm4").write_bytes(b"\0\0\0\4" * 20)
    with pytest.raises(Refused, match=r"Gatan DM4 .* Fiji .* TIFF"):
        readers.inspect(tmp_path / "a.dm4")


def test_mutated_files_are_read_or_refused_and_nothing_else(tmp_path):
    chance = np.random.default_rng(3)
    became = {"read": 0, "refused": 0}
    whole = [png(tmp_path / "a.png", DEEP), tiff(tmp_path / "b.tif", np.stack([GREY, GREY]), compression="zlib")]
    Image.fromarray(GREY).save(tmp_path / "c.jpg")
    for path in [*whole, tmp_path / "c.jpg"]:
        content = path.read_bytes()
        for _ in range(60):
            broken = bytearray(content)
            for at in chance.integers(0, len(broken), 4):
                broken[at] = chance.integers(0, 256)
            if chance.random() < 0.3:
                del broken[int(chance.integers(1, len(broken))) :]
            (tmp_path / "x").write_bytes(bytes(broken))
            try:
                header = readers.inspect(tmp_path / "x")
                if header.width * header.height < 10**6:
                    readers.read(tmp_path / "x", page=header.pages - 1)
                became["read"] += 1
            except Refused:
                became["refused"] += 1
    assert min(became.values()) > 10, "broken enough to be refused, whole enough to be read"


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 1), ("uint8", 3)])
def test_a_large_png_is_read_straight_into_its_array_with_the_same_pixels(tmp_path, monkeypatch, dtype, channels):
    shape = (41, 57) if channels == 1 else (41, 57, channels)
    pixels = np.random.default_rng(4).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, dpi=(300, 300))
    small = readers.read_colour(path)
    monkeypatch.setattr(picture, "LARGE", 0)
    assert np.array_equal(readers.read_colour(path), small)
    with readers.opened(path) as file:
        assert np.array_equal(file.pixels(), pixels)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(readers.Refused, match="damaged or cut off"):
        readers.read(path)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "float32"])
def test_a_large_image_is_made_coarse_by_means(dtype):
    pixels = (np.random.default_rng(5).random((103, 210)) * 100).astype(dtype)
    found = coarse(pixels, least=10)
    expected = pixels[:100, :210].astype(np.float64).reshape(10, 10, 21, 10).mean(axis=(1, 3))
    assert found.dtype == pixels.dtype
    assert found.shape == (10, 21)
    assert np.abs(found - expected).max() <= (1e-3 if dtype == "float32" else 0.5)
    assert coarse(pixels, least=60) is pixels


def test_an_image_of_too_many_bytes_is_refused_by_its_bytes_and_one_of_too_many_pixels_by_its_pixels():
    with pytest.raises(readers.Refused, match=r"takes 1\.1 GB unpacked; up to 1 GB is read"):
        validated(readers.Header("tiff", 20_000, 20_000, "uint8", channels=3), size=2**31)
    with pytest.raises(readers.Refused, match="up to 450 megapixels are read"):
        validated(readers.Header("tiff", 21_214, 21_214, "uint8"), size=2**31)
