"""From a folder of files to arrays that all jobs share."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ml_core.data import synthetic
from ml_core.data.arrays import prepare
from ml_core.data.manifests import folder_manifest
from ml_core.data.manifests import manifest as manifests
from ml_core.data.manifests.manifest import Manifest
from ml_core.errors import UserError

DEEP = (np.linspace(0, 1, 50 * 70).reshape(50, 70) * 30_000 + 1000).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two synthetic micrographs with masks, and a 16-bit slice of another size without."""
    synthetic.write_folder(tmp_path / "set", count=2, size=96, seed=3)
    tifffile.imwrite(tmp_path / "set" / "images" / "deep.tif", DEEP)
    return tmp_path / "set"


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    return folder_manifest.from_folder(folder)


def test_a_manifest_comes_back_from_its_file_and_its_hash_names_it(manifest, tmp_path):
    sha256 = manifest.write(tmp_path / "m.jsonl")
    again = manifests.read(tmp_path / "m.jsonl")
    assert again == manifest
    assert again.sha256 == sha256 == manifest.sha256
    assert list(manifests.stream(tmp_path / "m.jsonl")) == list(manifest.items)


def test_a_manifest_of_hashes_alone_finds_its_files_among_the_blobs(manifest, folder, tmp_path):
    item = manifest.items[1]
    blob = tmp_path / "blobs" / item.image.sha256[:2] / item.image.sha256
    blob.parent.mkdir(parents=True)
    blob.write_bytes(Path(item.image.path).read_bytes())
    bare = manifests.ManifestItem(**{**item_fields(item), "image": manifests.FileRef(item.image.sha256)})
    found = prepare.read_image(bare, blobs=tmp_path / "blobs")
    assert np.array_equal(found, np.asarray(Image.open(item.image.path)))


def item_fields(item: manifests.ManifestItem) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


def test_a_folder_is_paired_counted_and_windowed(manifest):
    assert [item.name for item in manifest.items] == [
        "images/deep.tif",
        "images/micrograph_1.png",
        "images/micrograph_2.png",
    ]
    assert manifest.layers == ("mitochondria",)
    values = manifest.items[1].masks["mitochondria"].values
    assert sum(values.values()) == 96 * 96
    assert manifest.items[0].low > 1000
    assert manifest.items[0].high < 31_000


def test_images_and_masks_are_brought_to_one_size_and_kept_in_order(manifest, folder, tmp_path):
    images = prepare.prepare(manifest, blobs=None, root=tmp_path / "p", size=32)
    masks = prepare.prepare_masks(manifest, "mitochondria", blobs=None, root=tmp_path / "p", size=32)
    assert images.array.shape == masks.array.shape == (3, 32, 32)
    assert list(masks.present) == [False, True, True]
    assert set(np.unique(masks.array)) == {0, 255}
    assert not masks.array[0].any()
    assert images.array[0].min() < 5
    assert images.array[0].max() > 250
    with pytest.raises(ValueError, match="read-only"):
        images.array[0, 0, 0] = 1


def test_whole_images_keep_their_own_sizes(manifest, tmp_path):
    images = prepare.prepare_whole(manifest, blobs=None, root=tmp_path)
    masks = prepare.prepare_whole_masks(manifest, "mitochondria", blobs=None, root=tmp_path)
    assert [images[n].shape for n in range(3)] == [(50, 70), (96, 96), (96, 96)]
    assert np.array_equal(images[1], np.asarray(Image.open(manifest.items[1].image.path)))
    assert np.array_equal(masks[2], np.asarray(Image.open(manifest.items[2].masks["mitochondria"].path)))
    assert masks[0].size == 0


def _prepare(folder: Path, root: Path, counts: multiprocessing.Queue) -> None:
    calls = []
    manifest = folder_manifest.from_folder(folder)
    prepared = prepare.prepare(manifest, blobs=None, root=root, size=16, progress=lambda *_: calls.append(1))
    counts.put((len(calls), int(prepared.array.sum())))


@pytest.mark.slow
def test_an_array_is_built_once_however_many_jobs_ask_for_it_at_the_same_time(folder, tmp_path):
    context = multiprocessing.get_context("spawn")
    counts = context.Queue()
    jobs = [context.Process(target=_prepare, args=(folder, tmp_path / "p", counts)) for _ in range(3)]
    for job in jobs:
        job.start()
    found = [counts.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(30)
    assert sorted(calls for calls, _ in found) == [0, 0, 3]
    assert len({total for _, total in found}) == 1


def test_a_stop_in_the_middle_leaves_nothing_half_made(manifest, tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(manifest, blobs=None, root=tmp_path / "p", size=16, progress=stop)
    assert [p.suffix for p in (tmp_path / "p").iterdir()] == [".lock"]
    assert len(prepare.prepare(manifest, blobs=None, root=tmp_path / "p", size=16)) == 3


def test_a_full_disk_is_an_error_before_anything_is_written(manifest, tmp_path, monkeypatch):
    def full(descriptor: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare, "_reserve", full)
    with pytest.raises(OSError, match="No space"):
        prepare.prepare(manifest, blobs=None, root=tmp_path / "p", size=16)
    assert [p.suffix for p in (tmp_path / "p").iterdir()] == [".lock"]


def test_a_missing_file_is_named_with_what_to_do(manifest, tmp_path):
    Path(manifest.items[1].image.path).unlink()
    with pytest.raises(UserError, match=r"micrograph_1.*missing.*backup"):
        prepare.prepare(manifest, blobs=None, root=tmp_path, size=16)


def test_a_changed_file_makes_another_array(folder, tmp_path):
    before = prepare.prepare(folder_manifest.from_folder(folder), blobs=None, root=tmp_path, size=16)
    synthetic.write_folder(folder, count=1, size=96, seed=99)
    after = prepare.prepare(folder_manifest.from_folder(folder), blobs=None, root=tmp_path, size=16)
    assert before.key != after.key


def test_synthetic_micrographs_are_the_same_for_a_seed_and_hold_what_their_masks_say():
    image, masks = synthetic.micrograph(5, size=192)
    again, _ = synthetic.micrograph(5, size=192)
    other, _ = synthetic.micrograph(6, size=192)
    assert np.array_equal(image, again)
    assert not np.array_equal(image, other)
    inside, outside = image[masks["mitochondria"] > 0], image[masks["mitochondria"] == 0]
    assert 0.02 < len(inside) / image.size < 0.35
    assert inside.mean() < outside.mean() - 15, "mitochondria are darker than the cytoplasm"


def test_the_data_road_loads_no_torch():
    modules = [
        "manifests.manifest",
        "manifests.splits",
        "formats.readers",
        "formats.decoder",
        "naming.pairing",
        "arrays.prepare",
        "archives.reader",
        "synthetic",
    ]
    code = "import sys, importlib; from ml_core.recipes import intake\n"
    code += f"for name in {modules!r}: importlib.import_module('ml_core.data.' + name)\n"
    done = subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], timeout=60, check=False)
    assert done.returncode == 0
