import colorsys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas_face.data.augment import (
    AugmentSettings,
    altered,
    blurred,
    coarsened,
    mirror,
    relit,
    shifted,
    turned,
)
from nas_face.errors import ConfigError

STRENGTHS = ("rotate", "zoom", "brightness", "contrast", "saturation")
CHANCES = ("grey", "low_resolution", "blur", "erase")


def noise(height: int = 12, width: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def draws(image: np.ndarray, n: int = 400, **settings: float) -> list[np.ndarray]:
    """An image altered with each of n generators."""
    return [
        altered(image, AugmentSettings(**settings), np.random.default_rng(seed))
        for seed in range(n)
    ]


def test_only_mirroring_is_on_by_default() -> None:
    assert AugmentSettings().flip
    assert AugmentSettings().only_moves
    assert not any(getattr(AugmentSettings(), name) for name in ("shift", *STRENGTHS, *CHANCES))


@pytest.mark.parametrize("name", [*STRENGTHS, *CHANCES])
def test_all_but_mirroring_and_shifts_make_new_pixels(name: str) -> None:
    settings = AugmentSettings(**{name: 0.1})
    assert not settings.only_moves
    assert AugmentSettings(flip=False, shift=3).only_moves


@pytest.mark.parametrize("name", [*STRENGTHS, *CHANCES])
@pytest.mark.parametrize("value", [-0.1, float("nan"), 180.1, float("inf")])
def test_settings_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^augment\.{name} must be from 0 to .*, got {value}"):
        AugmentSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "highest"),
    [("rotate", 180.0), ("zoom", 0.5), *((name, 1.0) for name in (*STRENGTHS[2:], *CHANCES))],
)
def test_the_ends_of_the_ranges_are_allowed(name: str, highest: float) -> None:
    assert getattr(AugmentSettings(**{name: highest}), name) == highest
    with pytest.raises(ConfigError, match=f"from 0 to {highest:g}, got"):
        AugmentSettings(**{name: highest + 0.01})


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"augment\.shift must be at least 0, got -1"):
        AugmentSettings(shift=-1)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_mirroring_is_numpys(width: int) -> None:
    image = noise(3, width)
    expected = image[:, ::-1].copy()
    mirror(image)
    assert np.array_equal(image, expected)


def test_shifted_images_are_moved_with_their_edge_repeated() -> None:
    images = np.stack([noise(6, 7, seed) for seed in range(25)])
    moves = np.array([(down, right) for down in range(-2, 3) for right in range(-2, 3)])
    rows, columns = np.arange(6), np.arange(7)
    for moved, still, (down, right) in zip(shifted(images, moves, 2), images, moves, strict=True):
        expected = still[np.clip(rows - down, 0, 5)][:, np.clip(columns - right, 0, 6)]
        assert np.array_equal(moved, expected)


@pytest.mark.parametrize("name", [*STRENGTHS, *CHANCES])
def test_each_depends_on_its_generator_alone(name: str) -> None:
    image = noise()
    before = image.copy()
    settings = AugmentSettings(**{name: 0.5})
    first, again = (altered(image, settings, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert np.array_equal(image, before)
    assert len({each.tobytes() for each in draws(image, 20, **{name: 0.5})}) > 1


@pytest.mark.parametrize("name", [*STRENGTHS, *CHANCES])
def test_nothing_is_done_without_strength(name: str) -> None:
    image = noise()
    assert np.array_equal(
        altered(image, AugmentSettings(**{name: 0.0}), np.random.default_rng(0)), image
    )


@pytest.mark.parametrize("name", CHANCES)
def test_probabilities_are_kept(name: str) -> None:
    image = noise(64, 64)

    def changed(chance: float) -> int:
        found = draws(image, **{name: chance})
        return sum(not np.array_equal(each, image) for each in found)

    assert 75 < changed(0.3) < 165  # of 400; five standard deviations are 46
    assert changed(1.0) > 350  # a few blurs are too weak to see, a few reductions too small


def test_what_one_draws_does_not_depend_on_the_others() -> None:
    image = np.full((4, 4, 3), 100, dtype=np.uint8)  # turning leaves it as it is
    assert all(
        np.array_equal(one, other)
        for one, other in zip(
            draws(image, 50, brightness=0.5),
            draws(image, 50, brightness=0.5, rotate=90.0, zoom=0.5, low_resolution=0.7, blur=0.9),
            strict=True,
        )
    )


def test_brightness_reaches_both_ends_evenly() -> None:
    image = np.full((2, 2, 3), 100, dtype=np.uint8)
    found = np.array([each[0, 0, 0] for each in draws(image, brightness=0.4)])
    assert 60 <= found.min() < 63
    assert 137 < found.max() <= 140
    assert found.mean() == pytest.approx(100, abs=6)


def test_turning_reaches_both_ends_evenly() -> None:
    """A dot to the right of the centre moves up and down as the sine."""
    image = np.zeros((41, 41, 3), dtype=np.uint8)
    image[20, 36:] = 255
    rows = np.arange(41)[:, None]
    heights = [
        20 - (each[..., 0] * rows).sum() / each[..., 0].sum() for each in draws(image, rotate=30.0)
    ]
    assert 7.5 < max(heights) < 10.5
    assert -10.5 < min(heights) < -7.5
    assert abs(np.mean(heights)) < 1.5


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [11, 12])
def test_quarter_turns_move_pixels_as_they_are(degrees: int, size: int) -> None:
    image = noise(size, size)
    found = turned(image, degrees=degrees, zoom=1.0)
    expected = np.rot90(image, degrees // 90)
    assert np.abs(found.astype(int) - expected).max() <= 1  # Pillow rounds down


@pytest.mark.parametrize("size", [(11, 12), (12, 9)])
def test_half_a_turn_of_an_oblong_is_two_mirrorings(size: tuple[int, int]) -> None:
    image = noise(*size)
    found = turned(image, degrees=180, zoom=1.0)
    assert np.abs(found.astype(int) - image[::-1, ::-1]).max() <= 1


def interpolated(image: np.ndarray, degrees: float, zoom: float) -> np.ndarray:
    """Each pixel of the result looked up in the image, by bilinear weights."""
    height, width = image.shape[:2]
    angle = np.radians(degrees)
    found = np.empty(image.shape)
    for row in range(height):
        for column in range(width):
            up, right = (height - 1) / 2 - row, column - (width - 1) / 2
            x = (right * np.cos(angle) + up * np.sin(angle)) / zoom + (width - 1) / 2
            y = (height - 1) / 2 - (up * np.cos(angle) - right * np.sin(angle)) / zoom
            left, top = int(np.floor(x)), int(np.floor(y))
            found[row, column] = sum(
                (1 - abs(x - c))
                * (1 - abs(y - r))
                * image[np.clip(r, 0, height - 1), np.clip(c, 0, width - 1)].astype(float)
                for r in (top, top + 1)
                for c in (left, left + 1)
            )
    return found


@pytest.mark.parametrize("size", [(11, 11), (9, 14)])
@pytest.mark.parametrize("degrees", [-160, -30, 0, 7.5, 45, 100])
@pytest.mark.parametrize("zoom", [0.5, 0.9, 1.0, 1.3])
def test_turning_and_zooming_is_bilinear_with_the_edge_repeated(
    size: tuple[int, int], degrees: float, zoom: float
) -> None:
    image = noise(*size)
    found = turned(image, degrees=degrees, zoom=zoom)
    assert np.abs(found - interpolated(image, degrees, zoom)).max() <= 1.01


def test_light_keeps_what_factors_of_one_keep() -> None:
    image = noise()
    assert np.array_equal(relit(image, brightness=1, contrast=1, saturation=1), image)


def test_light_is_the_formula() -> None:
    image = noise().astype(float)
    found = relit(noise(), brightness=0.8, contrast=0.7, saturation=1.2)
    luma = np.array([0.299, 0.587, 0.114])
    expected = image * 0.8
    mean = (expected @ luma).mean()
    expected = mean + 0.7 * (expected - mean)
    grey = (expected @ luma)[..., None]
    expected = np.clip(grey + 1.2 * (expected - grey), 0, 255)
    assert np.abs(found - expected).max() <= 0.501


def test_without_saturation_images_are_pillows_grey() -> None:
    image = noise()
    found = relit(image, brightness=1, contrast=1, saturation=0)
    grey = np.asarray(Image.fromarray(image).convert("L")).astype(int)
    assert np.abs(found.astype(int) - grey[..., None]).max() <= 1
    assert all(np.array_equal(each, found) for each in draws(image, 20, grey=1.0, saturation=0.5))


def test_light_is_cut_to_what_pixels_hold() -> None:
    image = np.array([[[0, 128, 255]]], dtype=np.uint8)
    assert relit(image, brightness=2, contrast=1, saturation=1).tolist() == [[[0, 255, 255]]]
    assert relit(image, brightness=0, contrast=1, saturation=1).tolist() == [[[0, 0, 0]]]


def test_saturation_leaves_the_hue() -> None:
    image = np.array([[[140, 110, 90]]], dtype=np.uint8)
    for factor in (0.5, 1.5):
        (((red, green, blue),),) = relit(image, brightness=1, contrast=1, saturation=factor)
        hue, _, _ = colorsys.rgb_to_hsv(float(red), float(green), float(blue))
        assert hue == pytest.approx(colorsys.rgb_to_hsv(140, 110, 90)[0], abs=0.02)


def test_coarse_images_keep_means_and_lose_detail() -> None:
    image = noise(32, 32)
    details = []
    for side in (1.0, 0.5, 0.25):
        found = coarsened(image, side=side).astype(float)
        assert found.mean() == pytest.approx(image.mean(), abs=2)
        details.append(found.std())
    assert np.array_equal(coarsened(image, side=1.0), image)
    assert details[0] > 1.5 * details[1] > 1.5 * 1.5 * details[2]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_tiny_images_survive_everything(size: tuple[int, int]) -> None:
    settings: dict[str, Any] = dict.fromkeys(CHANCES, 1.0) | {"rotate": 180.0, "zoom": 0.5}
    assert all(each.shape == (*size, 3) for each in draws(noise(*size), 50, **settings))


def test_blur_is_a_gaussian() -> None:
    image = np.zeros((31, 31, 3), dtype=np.uint8)
    image[15, 15] = 255
    found = blurred(np.tile(image, (1, 1, 1)), pixels=1.5)[..., 0].astype(float)
    rows = np.arange(31) - 15
    weights = np.exp(-(rows**2) / (2 * 1.5**2))
    expected = 255 * np.outer(weights, weights) / weights.sum() ** 2
    assert np.abs(found - expected).max() < 3  # Pillow's is three means of boxes


def test_one_rectangle_of_noise_is_erased() -> None:
    image = np.full((40, 60, 3), 7, dtype=np.uint8)
    areas, tall = [], 0
    for each in draws(image, 200, erase=1.0):
        changed = (each != 7).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        n_rows, n_columns = np.ptp(rows) + 1, np.ptp(columns) + 1
        inside = each[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert changed.sum() >= 0.98 * n_rows * n_columns
        assert inside.std() > 50
        areas.append(n_rows * n_columns / 2400)
        tall += n_rows > n_columns
    assert 0.015 < min(areas) < 0.06
    assert 0.3 < max(areas) < 0.41
    assert 60 < tall < 140
