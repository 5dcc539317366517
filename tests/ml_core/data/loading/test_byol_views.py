"""The views are what the paper and BYOL say they are, and each sample gets its own."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from lightly.transforms import BYOLView1Transform, BYOLView2Transform
from skimage import color

from ml_core.data.loading import byol_views
from ml_core.data.loading.view_pairs import Pairs, mean_and_deviation, source_size
from ml_core.specs import PretrainSpec

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _grey(count: int = 6, size: int = 64) -> torch.Tensor:
    return (torch.rand(count, size, size) * 255).byte()


def test_the_colour_view_is_the_lab_image_of_the_same_geometry() -> None:
    grey, ab = _grey(), (torch.rand(6, 2, 16, 16) * 60 + 98).byte()
    first, second = byol_views.grey_and_colour(grey, ab, colour_space="lab")
    assert torch.equal(first, (grey[:, None].float() / 255).expand(-1, 3, -1, -1))
    lightness = color.rgb2lab(np.repeat(grey.numpy()[..., None], 3, axis=-1))[..., 0]
    np.testing.assert_allclose(second[:, 0].numpy() * 100, lightness, atol=1e-2)
    small = torch.nn.functional.interpolate(ab.float(), size=(64, 64), mode="bilinear")
    torch.testing.assert_close(second[:, 1:] * 255, small)


def test_a_colourless_colour_view_is_the_grey_view() -> None:
    grey = _grey()
    first, second = byol_views.grey_and_colour(
        grey, torch.full((6, 2, 8, 8), 128, dtype=torch.uint8), colour_space="rgb"
    )
    torch.testing.assert_close(second, first, atol=2e-3, rtol=0)


def test_each_sample_is_cropped_by_itself_and_crops_lie_inside() -> None:
    ramp = torch.linspace(0.1, 0.9, 64).expand(40, 1, 64, 64)
    out = byol_views.crop(ramp, size=32)
    assert out.shape == (40, 1, 32, 32)
    assert 0.09 < out.min() < out.max() < 0.91, "nothing from outside the image"
    assert len({round(float(sample.mean()), 4) for sample in out}) > 35
    widths = (out[..., 0, -1] - out[..., 0, 0]).abs() / 0.8
    assert 0.2 < widths.min() < 0.6 < widths.max() <= 1
    rising = out[..., 0, -1] > out[..., 0, 0]
    assert 8 < int(rising.sum()) < 32, "about half are mirrored"


def test_blur_and_solarization_strike_the_share_of_samples_that_they_should() -> None:
    x = torch.rand(400, 1, 32, 32)
    assert torch.equal(byol_views.solarized(x, share=0.0), x)
    struck = (byol_views.solarized(x, share=0.2) != x).flatten(1).any(1).float().mean()
    assert 0.12 < struck < 0.28
    assert torch.equal(byol_views.solarized(x[:1], share=1.0), torch.where(x[:1] >= 0.5, 1 - x[:1], x[:1]))
    blurred = byol_views.blurred(x, share=1.0)
    assert (blurred.flatten(1).std(1) < x.flatten(1).std(1) + 1e-4).all()
    assert (blurred.flatten(1).std(1) < 0.5 * x.flatten(1).std(1)).float().mean() > 0.6
    assert len({round(float(value), 4) for value in blurred.flatten(1).std(1)}) > 50, "each by its own width"
    torch.testing.assert_close(byol_views.blurred(x, share=0.0), x)
    torch.testing.assert_close(
        byol_views.blurred(torch.full((2, 1, 32, 32), 0.3), share=1.0), torch.full((2, 1, 32, 32), 0.3)
    )


def test_the_numbers_of_byols_views_are_those_of_lightly() -> None:
    one, two = (
        {name: parameter.default for name, parameter in inspect.signature(transform).parameters.items()}
        for transform in (BYOLView1Transform, BYOLView2Transform)
    )
    assert (one["min_scale"], 1.0) == byol_views.CROP_AREA
    assert one["cj_strength"] == 1
    assert (
        one["cj_prob"],
        one["cj_bright"],
        one["cj_contrast"],
    ) == (byol_views.JITTER_SHARE, byol_views.BRIGHTNESS, byol_views.CONTRAST)
    assert (one["gaussian_blur"], two["gaussian_blur"]) == byol_views.BLUR_SHARE
    assert one["sigmas"] == byol_views.BLUR_SIGMA
    assert (one["solarization_prob"], two["solarization_prob"]) == byol_views.SOLARIZE_SHARE


def test_brightness_and_contrast_change_in_their_share_of_samples_within_their_bounds() -> None:
    flat = byol_views.jittered(torch.full((2000, 1, 2, 2), 0.5))[:, 0, 0, 0] / 0.5
    assert 0.6 <= flat.min() < 0.63
    assert 1.37 < flat.max() <= 1.4
    assert 0.77 < (flat != 1).float().mean() < 0.83
    step = torch.tensor([0.25, 0.35]).repeat(2000, 1, 2, 1)
    changed = byol_views.jittered(step)
    spread = (changed[:, 0, 0, 1] - changed[:, 0, 0, 0]) / 0.1
    contrast = spread / (changed.mean(dim=(1, 2, 3)) / 0.3)
    assert 0.599 <= contrast.min() < 0.63
    assert 1.37 < contrast.max() <= 1.401
    assert byol_views.jittered(torch.rand(50, 1, 8, 8)).min() >= 0


def test_each_view_of_colour_and_crop_has_its_own_geometry_and_tone_and_the_colours_stay() -> None:
    ramp = torch.linspace(60, 200, 128).byte().expand(80, 128, 128)
    ab = torch.full((80, 2, 16, 16), 150, dtype=torch.uint8)
    first, second = byol_views.cropped_grey_and_colour(ramp, ab, size=64, colour_space="lab")
    assert first.shape == second.shape == (80, 3, 64, 64)
    assert torch.equal(first[:, 0], first[:, 2])
    torch.testing.assert_close(second[:, 1:], torch.full((80, 2, 64, 64), 150 / 255))
    steep = (first[:, 0, :, -1] - first[:, 0, :, 0]).mean(1)
    other = (second[:, 0, :, -1] - second[:, 0, :, 0]).mean(1)
    assert 20 < int((steep.sign() != other.sign()).sum()) < 60, "mirrored by itself"

    flat = torch.full((80, 128, 128), 128, dtype=torch.uint8)  # every crop of it has the same histogram
    first, second = byol_views.cropped_grey_and_colour(flat, ab, size=64, colour_space="lab")
    as_bright = byol_views.lightness_of_grey(first[:, :1]) / 100
    assert ((as_bright - second[:, :1]).abs().amax((1, 2, 3)) > 0.02).float().mean() > 0.6, "tone is no answer"


def test_the_colours_of_a_crop_are_those_of_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byol_views, "_contrast_changed", lambda light: light)
    ramp = torch.linspace(40, 220, 128).expand(30, 128, 128)
    # The first plane says the same as the grey value, at a quarter of the size.
    small = torch.nn.functional.interpolate(ramp[:, None], size=(32, 32), mode="area")
    ab = torch.cat([small, torch.full_like(small, 128)], dim=1).round().byte()
    _, colour = byol_views.cropped_grey_and_colour(ramp.round().byte(), ab, size=64, colour_space="lab")
    lightness = byol_views.lightness_of_grey(colour[:, 1]) / 100
    inner = colour[:, 1] * 255
    inner = (inner > 45) & (inner < 215)  # beyond the last pixel's middle the small plane is flat
    torch.testing.assert_close(colour[:, 0][inner], lightness[inner], atol=0.01, rtol=0)


def test_some_grey_views_of_colour_and_crop_stay_sharp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byol_views, "crop", lambda x, size: x)
    noise = _grey(200, 64)
    first, _ = byol_views.cropped_grey_and_colour(
        noise, torch.full((200, 2, 8, 8), 128, dtype=torch.uint8), size=64, colour_space="lab"
    )
    rough = (first[:, 0, :, 1:] - first[:, 0, :, :-1]).abs().mean((1, 2)) / first[:, 0].std((1, 2))
    assert 0.4 < (rough > 1.1).float().mean() < 0.62


def test_whole_images_are_the_grey_image_at_the_views_size() -> None:
    spec = PretrainSpec(views="byol", image_size=64)
    images = _grey(5, 128).numpy()
    pairs = Pairs(images, ab=None, spec=spec, device=CPU)
    seen = pairs.whole(np.array([3, 1]))
    small = images[3].reshape(64, 2, 64, 2).mean((1, 3)) / 255
    np.testing.assert_allclose(seen[0, 1].numpy(), (small - pairs.mean[0]) / pairs.deviation[0], atol=1e-4)
    assert seen.shape == (2, 3, 64, 64)


def test_byols_views_are_two_and_different() -> None:
    first, second = byol_views.augmented_pair(_grey(8, 128), size=64)
    assert first.shape == second.shape == (8, 3, 64, 64)
    assert not torch.equal(first, second)
    for view in (first, second):
        assert torch.equal(view[:, 0], view[:, 2])
        assert 0 <= view.min() <= view.max() <= 1


@pytest.mark.parametrize("policy", ["colour", "colour+crop", "byol"])
@pytest.mark.parametrize("colour_space", ["lab", "rgb"])
def test_every_policy_makes_views_of_the_size_asked_for(policy: str, colour_space: str) -> None:
    spec = PretrainSpec(views=policy, colour_space=colour_space, image_size=64)  # type: ignore[arg-type]
    images = _grey(5, source_size(spec)).numpy()
    ab = None if policy == "byol" else torch.full((5, 2, 16, 16), 140, dtype=torch.uint8)
    pairs = Pairs(images, ab=ab, spec=spec, device=CPU)
    first, second = pairs.views(np.array([4, 0, 2]))
    assert first.shape == second.shape == (3, 3, 64, 64)
    assert abs(float(pairs.normalised(first).mean())) < 1
    pictures = pairs.pictures(second, second=True)
    assert pictures[0].shape == (64, 64, 3)
    assert pictures[0].dtype == np.uint8


def test_lab_is_shown_as_the_colour_that_it_stands_for() -> None:
    grey = _grey(2)
    ab = torch.full((2, 2, 64, 64), 150, dtype=torch.uint8)
    shown = {}
    for space in ("lab", "rgb"):
        pairs = Pairs(
            grey.numpy(),
            ab=ab,
            spec=PretrainSpec(image_size=64, colour_space=space),
            device=CPU,  # type: ignore[arg-type]
        )
        shown[space] = pairs.pictures(pairs.views(np.array([0, 1]))[1], second=True)
    np.testing.assert_allclose(shown["lab"][1].astype(int), shown["rgb"][1], atol=1)


def test_tone_is_mean_and_deviation_of_the_grey_values() -> None:
    images = _grey(9, 32).numpy()
    mean, deviation = mean_and_deviation(images)
    assert mean == pytest.approx(images.mean() / 255, abs=1e-5)
    assert deviation == pytest.approx(images.std() / 255, abs=1e-5)
    assert mean_and_deviation(np.full((2, 8, 8), 7, np.uint8))[1] > 0
