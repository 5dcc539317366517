"""Files written by others come back pixel for pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

from ml_core.data.formats import readers
from ml_core.data.formats.readers import Refused

GREY = np.random.default_rng(0).integers(0, 256, (40, 60)).astype(np.uint8)
DEEP = (np.random.default_rng(1).random((40, 60)) * 50_000 + 5_000).astype(np.uint16)
FLOATS = (DEEP / 7).astype(np.float32)
BITS = GREY > 128
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def stacked(pixels: np.ndarray, count: int = 5) -> np.ndarray:
    return np.stack([np.roll(pixels, n) for n in range(count)])


def by_tifffile(**options: object) -> Callable[[Path, np.ndarray], object]:
    return lambda path, pixels: tifffile.imwrite(path, pixels, **options)


def by_pillow(**options: object) -> Callable[[Path, np.ndarray], object]:
    def write(path: Path, pixels: np.ndarray) -> None:
        pages = [Image.fromarray(page) for page in (pixels if pixels.ndim == 3 else [pixels])]
        more = {"save_all": True, "append_images": pages[1:]} if len(pages) > 1 else {}
        pages[0].save(path, **more, **options)

    return write


def by_mrcfile(path: Path, pixels: np.ndarray) -> None:
    with mrcfile.new(path) as file:
        file.set_data(pixels)


WRITTEN = [
    *[("tifffile", f"{kind}.tif", by_tifffile(compression=kind), DEEP) for kind in ("zlib", "lzw", "zstd", "lzma")],
    ("tifffile", "predicted.tif", by_tifffile(compression="zlib", predictor=True), DEEP),
    ("tifffile", "tiled.tif", by_tifffile(tile=(16, 16), compression="zstd"), stacked(DEEP)),
    ("tifffile", "bits.tif", by_tifffile(), BITS),
    ("tifffile", "floats.tif", by_tifffile(), FLOATS),
    ("tifffile", "wide.tif", by_tifffile(), DEEP.astype(np.int32) * 1000),
    ("tifffile", "big.tif", by_tifffile(bigtiff=True), stacked(DEEP)),
    ("tifffile", "big-endian.tif", by_tifffile(byteorder=">", bigtiff=True), stacked(FLOATS)),
    ("tifffile", "s.ome.tif", by_tifffile(ome=True, metadata={"axes": "ZYX"}), stacked(DEEP)),
    ("tifffile", "imagej.tif", by_tifffile(imagej=True, metadata={"axes": "ZYX"}), stacked(FLOATS)),
    ("tifffile", "strips.tif", by_tifffile(rowsperstrip=7, compression="lzw"), GREY),
    ("Pillow", "grey.png", by_pillow(), GREY),
    ("Pillow", "deep.png", by_pillow(), DEEP),
    ("Pillow", "bits.png", by_pillow(), BITS),
    ("Pillow", "packed.tif", by_pillow(compression="packbits"), GREY),
    ("Pillow", "fax.tif", by_pillow(compression="group4"), BITS),
    ("Pillow", "stack.tif", by_pillow(compression="tiff_lzw"), stacked(DEEP)),
    ("Pillow", "floats.tif", by_pillow(), FLOATS),
    ("imageio", "grey.png", imageio.imwrite, GREY),
    ("imageio", "deep.png", imageio.imwrite, DEEP),
    ("imageio", "stack.tif", imageio.imwrite, stacked(DEEP)),
    ("imageio", "floats.tif", imageio.imwrite, FLOATS),
    *[("mrcfile", f"{kind}.mrc", by_mrcfile, stacked(GREY // 2).astype(kind)) for kind in ("int8", "int16", "float16")],
    ("mrcfile", "deep.mrc", by_mrcfile, stacked(DEEP)),
    ("mrcfile", "floats.mrc", by_mrcfile, stacked(FLOATS)),
    ("mrcfile", "one.mrc", by_mrcfile, DEEP),
    ("numpy", "one.npy", np.save, GREY),
    ("numpy", "stack.npy", np.save, stacked(FLOATS)),
    ("numpy", "big-endian.npy", np.save, stacked(DEEP).astype(">u2")),
    ("numpy", "bits.npy", np.save, BITS),
]


@pytest.mark.parametrize(("program", "name", "write", "pixels"), WRITTEN, ids=[f"{w[0]}-{w[1]}" for w in WRITTEN])
def test_what_others_write_comes_back_pixel_for_pixel(tmp_path, program, name, write, pixels):
    write(tmp_path / name, pixels)
    pages = pixels if pixels.ndim == 3 else [pixels]
    header = readers.inspect(tmp_path / name)
    assert (header.pages, header.width, header.height) == (len(pages), 60, 40)
    for number, page in enumerate(pages):
        found = readers.read(tmp_path / name, page=number)
        wanted = page.astype(np.uint8) * 255 if page.dtype == bool else page
        assert found.dtype == wanted.dtype.newbyteorder("=")
        assert np.array_equal(found, wanted), number


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("c.png", lambda path, pixels: Image.fromarray(pixels).save(path)),
        ("c.tif", by_tifffile(photometric="rgb")),
        ("c.npy", np.save),
        ("i.png", imageio.imwrite),
    ],
)
def test_colour_comes_back_as_it_was(tmp_path, name, write):
    write(tmp_path / name, COLOUR)
    assert np.array_equal(readers.read_colour(tmp_path / name), COLOUR)
    assert readers.inspect(tmp_path / name).colour
    assert readers.is_colour(tmp_path / name)


def test_lossy_tiffs_come_back_close(tmp_path):
    smooth = np.asarray(Image.fromarray(GREY[::10, ::10]).resize((60, 40), Image.Resampling.BICUBIC))
    tifffile.imwrite(tmp_path / "j.tif", smooth, compression="jpeg", compressionargs={"level": 95})
    assert np.abs(readers.read(tmp_path / "j.tif").astype(int) - smooth).mean() < 3


@pytest.mark.parametrize(
    ("unit", "size", "nm"), [("nm", 8, 8.0), ("µm", 0.008, 8.0), ("Å", 80, 8.0), ("mm", 1e-6, 1.0)]
)
def test_ome_tells_the_pixel_size_with_its_unit(tmp_path, unit, size, nm):
    metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "s.ome.tif", GREY, ome=True, metadata=metadata)
    assert readers.inspect(tmp_path / "s.ome.tif").pixel_size_nm == nm


def test_planes_of_several_channels_are_images_and_a_note_says_so(tmp_path):
    tifffile.imwrite(
        tmp_path / "c.ome.tif", np.stack([stacked(GREY, 2), stacked(GREY, 2)]), ome=True, metadata={"axes": "CZYX"}
    )
    header = readers.inspect(tmp_path / "c.ome.tif")
    assert header.pages == 4
    assert "2 channels" in header.notes[0]


def test_mrc_tells_the_pixel_size_in_angstrom(tmp_path):
    with mrcfile.new(tmp_path / "m.mrc") as file:
        file.set_data(stacked(DEEP))
        file.voxel_size = (41.6, 41.6, 300)
    assert readers.inspect(tmp_path / "m.mrc").pixel_size_nm == 4.16


def test_the_first_row_of_an_mrc_section_is_on_top_and_permuted_axes_are_noted(tmp_path):
    ramp = np.repeat(np.arange(40, dtype=np.int16)[:, None], 60, axis=1)
    with mrcfile.new(tmp_path / "m.mrc") as file:
        file.set_data(ramp)
        file.header.mapc, file.header.mapr = 2, 1
        file.header.cella.y, file.header.my = 600.0, 60
    assert readers.read(tmp_path / "m.mrc")[0, 0] == 0
    header = readers.inspect(tmp_path / "m.mrc")
    assert "permuted" in header.notes[0]
    assert header.pixel_size_nm == 1.0, "columns are the cell's y"


def test_bytes_of_imod_are_unsigned_where_its_flag_says_so(tmp_path):
    with mrcfile.new(tmp_path / "m.mrc") as file:
        file.set_data(GREY.view(np.int8))
    content = bytearray((tmp_path / "m.mrc").read_bytes())
    content[152:160] = (1146047817).to_bytes(4, "little") + (0).to_bytes(4, "little")
    (tmp_path / "m.mrc").write_bytes(bytes(content))
    assert np.array_equal(readers.read(tmp_path / "m.mrc"), GREY)
    content[156] = 1
    (tmp_path / "m.mrc").write_bytes(bytes(content))
    assert np.array_equal(readers.read(tmp_path / "m.mrc"), GREY.view(np.int8))


def test_an_old_mrc_without_its_word_is_known_by_its_suffix(tmp_path):
    with mrcfile.new(tmp_path / "m.mrc") as file:
        file.set_data(DEEP)
    content = bytearray((tmp_path / "m.mrc").read_bytes())
    content[208:212] = bytes(4)
    (tmp_path / "m.rec").write_bytes(bytes(content))
    assert np.array_equal(readers.read(tmp_path / "m.rec"), DEEP)
    with pytest.raises(Refused):
        readers.inspect(tmp_path / "m.rec", name="upload")


def test_every_slice_of_a_long_stack_is_found_without_walking_to_it(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as writer:
        for number in range(300):
            writer.write(np.full((4, 4), number, np.uint16), contiguous=False, metadata=None)
    assert [int(readers.read(tmp_path / "s.tif", page=n)[0, 0]) for n in (299, 0, 150, 1)] == [299, 0, 150, 1]


@pytest.mark.parametrize("suffix", ["dm3", "dm4", "czi", "nd2", "emd", "h5"])
def test_other_formats_are_answered_with_how_to_export_them(tmp_path, suffix):
    (tmp_path / "a").write_bytes(b"\0\0\0\4" * 500)
    with pytest.raises(Refused, match=r"not read. Open it in Fiji .* save it as TIFF"):
        readers.inspect(tmp_path / "a", name=f"a.{suffix}")


def test_windows_are_those_of_the_sorted_values(tmp_path):
    chance = np.random.default_rng(4)
    for pixels in (
        chance.normal(3000, 400, (300, 300)).astype(np.uint16),
        chance.normal(0, 90, (99, 99)).astype(np.int8),
    ):
        low, high = readers.window([pixels])
        wanted = np.percentile(pixels, (0.35, 99.65), method="lower")
        assert np.allclose((low, high), wanted)


def test_a_large_image_is_windowed_strip_by_strip_as_a_small_one(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 60_000, (3000, 1500)).astype(np.uint16)
    whole = np.clip(np.rint((pixels.astype(np.float64) - 1000) * 255 / 40_000), 0, 255).astype(np.uint8)
    assert np.abs(readers.windowed(pixels, low=1000, high=41_000).astype(int) - whole).max() <= 1
    floats = readers.windowed(pixels.astype(np.float32), low=1000, high=41_000)
    assert np.abs(floats.astype(int) - whole).max() <= 1
