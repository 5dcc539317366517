"""Which mask belongs to which image."""

from __future__ import annotations

import time

import pytest

from ml_core.data.naming.pairing import Entry, Pairing, pair
from ml_core.data.naming.stacks import natural, places


def paired(*names: str, pages: dict[str, int] | None = None) -> Pairing:
    return pair([Entry(name, (pages or {}).get(name, 1)) for name in names])


def found(pairing: Pairing) -> dict[str, dict[str, tuple[str, str]]]:
    return {i: {layer: (m.name, m.rule) for layer, m in layers.items()} for i, layers in pairing.masks.items()}


def test_equal_names_in_folders_of_images_and_masks():
    result = paired("a/images/x.png", "a/images/y.png", "a/masks/x.tif", "b/images/x.png", "b/masks/x.png")
    assert found(result) == {
        "a/images/x.png": {"mask": ("a/masks/x.tif", "folder")},
        "b/images/x.png": {"mask": ("b/masks/x.png", "folder")},
    }
    assert not result.unpaired


def test_a_folder_name_can_name_a_layer():
    result = paired("images/x.png", "masks/x.png", "masks_membranes/x.png", "mito_labels/x.png", "train_masks/x.png")
    assert set(result.masks["images/x.png"]) == {"mask", "membranes", "mito"}
    assert [entry.name for entry in result.unpaired] == ["train_masks/x.png"]


def test_images_without_masks_that_have_the_same_names_are_not_mixed_up():
    result = paired("images/0.png", "images_unlabeled_testvolume/0.png", "masks/0.png")
    assert list(result.masks) == ["images/0.png"]


def test_suffixes_beside_the_image():
    result = paired("x.png", "x_mask.png", "y.tif", "y-labels.tif", "z.png", "z_mask_membranes.png")
    assert found(result) == {
        "x.png": {"mask": ("x_mask.png", "suffix")},
        "y.tif": {"mask": ("y-labels.tif", "suffix")},
        "z.png": {"membranes": ("z_mask_membranes.png", "suffix")},
    }


def test_a_stack_takes_the_only_stack_of_masks_with_as_many_slices():
    pages = {"images/volume.tif": 165, "masks/annotated.tif": 165}
    result = paired(*pages, pages=pages)
    assert found(result) == {"images/volume.tif": {"mask": ("masks/annotated.tif", "stack")}}
    assert paired("images/v.tif", "masks/w.tif", pages={"images/v.tif": 9, "masks/w.tif": 8}).unpaired


def test_equal_sequences_of_numbers_where_they_are_unambiguous():
    images = [f"images/Hela_Data_Slice_100_Sample_{n}.png" for n in (1, 2)]
    masks = [f"masks_nucleus/Hela_Label_Slice100_Sample_{n}.png" for n in (1, 2)]
    assert found(paired(*images, *masks)) == {
        i: {"nucleus": (m, "numbers")} for i, m in zip(images, masks, strict=True)
    }
    twice = paired("images/a_1.png", "images/b_1.png", "masks/c_1.png")
    assert not twice.masks
    assert len(twice.unpaired) == 1


def test_a_project_folder_with_masks_in_its_name_holds_images_all_the_same():
    result = paired("mito-labels/images/x.png", "mito-labels/masks/x.png")
    assert list(result.masks) == ["mito-labels/images/x.png"]


def test_numbered_files_of_one_size_are_a_stack_and_a_few_are_not():
    stack = places([(f"training/images/training_{n:04d}.png", 9, 9) for n in range(0, 60, 4)])
    assert {(p.group, p.split) for p in stack.values()} == {("training", "train")}
    assert [p.index for p in stack.values()] == list(range(0, 60, 4))
    few = places([(f"mitochondria{n}.png", 9, 9) for n in range(20)] + [("scan_0001.png", 9, 9)])
    assert {p.group for p in few.values()} == {""}


def test_patches_belong_to_the_slice_that_they_were_cut_from():
    found = places([("Hela_Data_Slice_100_Sample_7.png", 9, 9)])["Hela_Data_Slice_100_Sample_7.png"]
    assert (found.group, found.index) == ("Hela_Data_Slice_100", 7)


def test_names_sort_as_people_count():
    assert sorted(["s10", "s9", "S1", "a"], key=natural) == ["a", "S1", "s9", "s10"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "masks", ["masks/s{folder}/ma_{n}.png", "masks/ma_{n}.png", "masks/t{folder}/none_1{n}99999.png"]
)
def test_thousands_of_folders_pair_by_numbers_in_seconds(masks: str) -> None:
    count = 12_000
    names = [f"images/s{n // 20}/im_{n}.png" for n in range(count)]
    began = time.process_time()
    result = paired(*names, *(masks.format(folder=n // 20, n=n) for n in range(count)))
    took = time.process_time() - began
    wanted = 0 if "none" in masks else count
    assert (len(result.masks), len(result.unpaired)) == (wanted, count - wanted)
    assert took < 6, "by comparing every folder with every other it would be a minute"


def test_folders_of_masks_take_folders_of_images_with_the_same_numbers_in_turn() -> None:
    result = paired(
        *(f"images/s{k}/im_{n}.png" for k in (1, 2) for n in range(3)),
        *(f"masks/t{k}/ma_{n}.png" for k in (1, 2) for n in range(3)),
    )
    assert found(result) == {
        f"images/s{k}/im_{n}.png": {"mask": (f"masks/t{k}/ma_{n}.png", "numbers")} for k in (1, 2) for n in range(3)
    }
