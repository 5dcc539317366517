"""What tables and folders say of images."""

from __future__ import annotations

import io

import pytest

from ml_core.data.formats.image_file import Refused
from ml_core.data.manifests import folder_manifest
from ml_core.data.naming import label_tables, published_sets
from ml_core.data.naming.label_tables import Entry, LabelLookup
from ml_core.data.naming.pairing import Entry as File
from ml_core.data.naming.pairing import pair, role_of
from ml_core.data.naming.stacks import places
from tests.fuzz.corpus import GREY, picture


def entries(text: str) -> list[Entry] | None:
    found = label_tables.read(io.BytesIO(text.encode("utf-8")))
    return None if found is None else list(found)


def test_columns_are_known_by_their_headings_however_they_are_spelled():
    wanted = [Entry("a.png", "mouse", "train", "slice 3", 5.0)]
    assert entries("file,label,split,group,pixel_size_nm\na.png,mouse,training,slice 3,5\n") == wanted
    assert entries("\ufeffFile name;Class;Set;Stack;Pixel size (nm)\r\na.png;mouse;Train;slice 3;5.0\r\n") == wanted


def test_the_organism_is_the_label_where_no_column_is_called_so_and_is_kept_as_a_fact():
    found = entries("filename\torganism\tdataset\tTissue\na.tiff\tHuman\tEMPIAR-1\tliver\n")
    assert found == [Entry("a.tiff", "Human", facts={"organism": "Human", "source": "EMPIAR-1", "tissue": "liver"})]
    assert entries("file,label,organism\na.png,cell,mouse\n")[0].label == "cell"


@pytest.mark.parametrize("text", ["step,loss\n1,0.5\n", "file\na.png\n", "", "label,split\nmouse,train\n"])
def test_tables_of_something_else_are_none(text):
    assert entries(text) is None


@pytest.mark.parametrize("text", ["file,label\n" + "a" * 70_000, "file,label\na\0b,c\n"])
def test_what_is_no_table_is_refused(text):
    with pytest.raises(Refused):
        entries(text)


def test_an_entry_is_found_by_path_then_by_own_name_then_by_what_the_name_begins_with():
    finder = LabelLookup(
        [Entry("a/1.png", "path"), Entry("2.png", "own"), Entry("EMPIAR-7", "many"), Entry("x", "stem")], folder="set"
    )
    found = {
        name: finder.find(name) for name in ("set/a/1.png", "deep/2.png", "EMPIAR-7_0012-3.tiff", "x.tif", "y.tif")
    }
    assert [entry.label if entry else None for entry in found.values()] == ["path", "own", "many", "stem", None]
    twice = LabelLookup([Entry("a/1.png", "one"), Entry("b/1.png", "two"), Entry("c.png")])
    assert twice.find("other/1.png") is None, "which of the two is meant nobody knows"
    assert twice.unused == ["a/1.png", "b/1.png", "c.png"]


def test_folders_side_by_side_are_classes():
    names = [
        f"set/{part}/{kind}/{n}.png" for part in ("train", "test") for kind in ("mouse", "human") for n in range(3)
    ]
    labels = published_sets.labels_by_folder(names)
    assert labels["set/train/mouse/1.png"] == "mouse"
    assert set(labels.values()) == {"mouse", "human"}


@pytest.mark.parametrize(
    "names",
    [
        ["images/a.png", "images/b.png"],
        ["train/a.png", "train/b.png", "test/a.png", "test/b.png"],
        ["mouse/a.png", "mouse/b.png"],
        ["images/a.png", "images/b.png", "extra/a.png", "extra/b.png"],
        ["a/1.png", "b/1.png"],
    ],
)
def test_other_folders_are_no_classes(names):
    assert published_sets.labels_by_folder(names) == {}


LUCCHI = [f"Lucchi++/{part}_In/mask{n:04d}.png" for part in ("Train", "Test") for n in range(12)]
LUCCHI_MASKS = [f"Lucchi++/{part}_Out/{n}.png" for part in ("Train", "Test") for n in range(12)]


def test_casser_s_folders_pair_images_with_masks_and_keep_the_parts():
    paired = pair([File(name) for name in [*LUCCHI_MASKS, *LUCCHI]])
    assert [entry.name for entry in paired.images] == LUCCHI
    assert not paired.unpaired
    assert paired.masks["Lucchi++/Test_In/mask0007.png"]["mitochondria"].name == "Lucchi++/Test_Out/7.png"
    found = places([(name, 9, 9) for name in LUCCHI])
    assert [found[LUCCHI[place]].split for place in (0, 12)] == ["train", "test"]
    assert found["Lucchi++/Train_In/mask0003.png"].group != found["Lucchi++/Test_In/mask0003.png"].group
    assert "Lucchi++" in published_sets.sentences(LUCCHI)[0]


def test_other_sets_in_the_same_layout_have_a_plain_layer():
    assert role_of("mine/train_out/a.png").layer == "mask"
    assert role_of("mine/train_in/a_mask.png").layer == ""
    assert role_of("mine/knockout/a.png").layer == ""


def test_a_folder_at_a_terminal_takes_labels_sides_and_sizes_from_its_table(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.png").write_bytes(picture(GREY, "PNG"))
    (tmp_path / "labels.csv").write_text("file,label,split,pixel_size_nm\nimages/a.png,mouse,test,4\n")
    a, b = folder_manifest.from_folder(tmp_path).items
    assert (a.label, a.split, a.pixel_size_nm) == ("mouse", "test", 4.0)
    assert (b.label, b.split, b.pixel_size_nm) == ("", "", None)
