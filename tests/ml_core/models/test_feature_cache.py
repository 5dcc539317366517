"""Kept features: those that the encoder would find again, each computed once."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from ml_core.data.arrays.prepare import prepare, prepare_masks, prepare_whole, prepare_whole_masks
from ml_core.data.loading.segmentation_data import SegmentationData
from ml_core.data.manifests import folder_manifest
from ml_core.data.manifests.splits import split
from ml_core.imaging.tensor_blur import gaussian_blur
from ml_core.models.feature_cache import BLUR, FORMS, FeatureCache
from ml_core.models.unet import Segmenter
from tests.ml_core.disks import write_disks

pytestmark = pytest.mark.slow  # runs networks: seconds each

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SegmentationData:
    folder = tmp_path_factory.mktemp("cache")
    manifest = folder_manifest.from_folder(write_disks(folder / "set", sizes=[(32, 32)] * 4))
    where = {"blobs": None, "root": folder / "prepared"}
    return SegmentationData(
        manifest,
        layer="mask",
        split=split(manifest.items, seed=0),
        images=prepare_whole(manifest, **where),
        masks=prepare_whole_masks(manifest, "mask", **where),
        squares=(prepare(manifest, size=SIZE, **where), prepare_masks(manifest, "mask", size=SIZE, **where)),
        size=SIZE,
        device=torch.device("cpu"),
    )


def _cache(
    data: SegmentationData, *, architecture: str = "casser", decoder: str = "unet", half: bool = False
) -> FeatureCache:
    torch.manual_seed(4)
    channels = 1 if architecture == "casser" else 3
    segmenter = Segmenter(
        architecture=architecture,
        decoder=decoder,
        classes=2,
        mean=[0.4] * channels,
        deviation=[0.2] * channels,
        frozen=True,
    )
    autocast = (lambda: torch.autocast("cpu", torch.bfloat16)) if half else contextlib.nullcontext
    return FeatureCache(segmenter, data, autocast=autocast)


def _seen(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The images that the encoder is shown."""
    shown: list[torch.Tensor] = []
    encode = cache._segmenter.encode

    def watched(grey: torch.Tensor) -> list[torch.Tensor]:
        shown.append(grey)
        return encode(grey)

    monkeypatch.setattr(cache._segmenter, "encode", watched)
    return shown


def test_each_form_of_an_image_is_computed_once_and_there_are_16(
    data: SegmentationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = _cache(data)
    shown = _seen(cache, monkeypatch)
    torch.manual_seed(0)
    for _ in range(200):
        cache.batch(np.array([0]))
    assert len(shown) == FORMS
    assert len({tuple(image.flatten().tolist()) for image in shown}) == FORMS
    grey = data.batch(np.array([0]))[0]
    expected = {
        tuple(form.flatten().tolist())
        for turned in (torch.rot90(grey, turns, (2, 3)) for turns in range(4))
        for lain in (turned, turned.flip(3))
        for form in (lain.contiguous(), gaussian_blur(lain.contiguous(), sigma=BLUR, radius=2))
    }
    assert {tuple(image.flatten().tolist()) for image in shown} == expected


@pytest.mark.parametrize(
    ("architecture", "decoder", "half"),
    [
        ("resnet18", "unet", False),
        ("resnet18", "unet", True),
        ("resnet18", "unetplusplus", False),
        ("resnet18", "fpn", False),
        ("casser", "unet", False),
    ],
)
def test_the_decoder_answers_as_if_the_encoder_had_just_seen_the_images(
    data: SegmentationData, monkeypatch: pytest.MonkeyPatch, architecture: str, decoder: str, half: bool
) -> None:
    cache = _cache(data, architecture=architecture, decoder=decoder, half=half)
    shown = _seen(cache, monkeypatch)
    maps, _ = cache.batch(np.array([0, 2]))
    segmenter = cache._segmenter.eval()
    with torch.no_grad(), cache._autocast():
        kept = segmenter.decode(maps).float()
        plain = segmenter(torch.cat(shown[-2:])).float()
    # float16 keeps 3 digits of the features; what bfloat16 computed is kept as it is.
    assert torch.allclose(kept, plain, atol=2e-2 if half else 5e-3)
    again = [level.clone() for level in maps]
    assert all(torch.equal(a, b) for a, b in zip(maps, again, strict=True))


def test_image_and_mask_lie_the_same_way(data: SegmentationData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks are brighter than what is around them, blurred or not."""
    cache = _cache(data)
    shown = _seen(cache, monkeypatch)
    torch.manual_seed(1)
    for _ in range(6):
        shown.clear()
        cache._kept.clear()
        _, truth = cache.batch(np.array([0, 1, 2]))
        bright = torch.cat(shown)[:, 0] > 0.45
        assert ((truth > 0) == bright).float().mean() > 0.98


def test_the_memory_that_all_forms_take_is_known_beforehand(data: SegmentationData) -> None:
    cache = _cache(data)
    foreseen = cache.most_bytes()
    grey = data.batch(np.arange(data.samples))[0]
    for sample in range(data.samples):
        for form in range(FORMS):
            cache._maps(sample, grey[sample][None], form=form)
    assert foreseen == sum(level.nbytes for maps in cache._kept.values() for level in maps)


def test_an_encoder_that_learns_has_no_cache(data: SegmentationData) -> None:
    segmenter = Segmenter(architecture="casser", classes=2, mean=[0.5], deviation=[0.2])
    with pytest.raises(AssertionError, match="change at every step"):
        FeatureCache(segmenter, data, autocast=contextlib.nullcontext)
