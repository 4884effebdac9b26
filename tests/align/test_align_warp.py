"""Similarity transforms and warping, against known transforms and other implementations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares

from nas_face.align.warp import (
    TEMPLATE,
    apply_transform,
    inverse_transform,
    scaled_template,
    similarity_transform,
    warp,
)


def transform_of(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    turn = math.radians(degrees)
    a, b = scale * math.cos(turn), scale * math.sin(turn)
    return np.array([(a, -b, x), (b, a, y)])


@given(
    scale=st.floats(0.02, 50),
    degrees=st.floats(-180, 180),
    x=st.floats(-3000, 3000),
    y=st.floats(-3000, 3000),
)
def test_an_exact_transform_is_found_again(scale, degrees, x, y):
    exact = transform_of(scale, degrees, x, y)
    found = similarity_transform(TEMPLATE, apply_transform(exact, TEMPLATE))
    np.testing.assert_allclose(found, exact, rtol=1e-7, atol=1e-7 * (1 + abs(x) + abs(y)))


@pytest.mark.parametrize("seed", range(5))
def test_noisy_points_are_fitted_as_by_a_general_solver(seed):
    rng = np.random.default_rng(seed)
    exact = transform_of(rng.uniform(0.2, 5), rng.uniform(-180, 180), 40, -7)
    target = apply_transform(exact, TEMPLATE) + rng.normal(0, 4, TEMPLATE.shape)

    def misfit(p: np.ndarray) -> np.ndarray:
        candidate = np.array([(p[0], -p[1], p[2]), (p[1], p[0], p[3])])
        return (apply_transform(candidate, TEMPLATE) - target).ravel()

    a, b, x, y = least_squares(misfit, [1.0, 0.0, 0.0, 0.0], xtol=1e-14, ftol=1e-14).x
    found = similarity_transform(TEMPLATE, target)
    np.testing.assert_allclose(found, [(a, -b, x), (b, a, y)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_noisy_points_are_fitted_as_by_umeyamas_formulas(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(0, 30, (2, 5, 2))  # unrelated: here mirroring would fit better
    a, b = source - source.mean(0), target - target.mean(0)
    u, values, vt = np.linalg.svd(b.T @ a / 5)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ np.diag(sign) @ vt * (values @ sign) / a.var(axis=0).sum()
    shift = target.mean(0) - turn @ source.mean(0)
    found = similarity_transform(source, target)
    np.testing.assert_allclose(found, np.column_stack([turn, shift]), atol=1e-9)


def test_mirrored_points_are_not_mirrored_back():
    found = similarity_transform(TEMPLATE * [-1, 1], TEMPLATE)
    assert np.linalg.det(found[:, :2]) > 0


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (np.zeros((5, 2)), "all the same"),
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((5, 3)), "alike"),
        (np.zeros((4, 2)), "alike"),
    ],
)
def test_points_that_fit_nothing_are_refused(source, rule):
    with pytest.raises(ValueError, match=rule):
        similarity_transform(source, TEMPLATE)


def test_the_inverse_undoes():
    transform = transform_of(0.3, 50, 12, -90)
    back = inverse_transform(transform)
    np.testing.assert_allclose(
        apply_transform(back, apply_transform(transform, TEMPLATE)), TEMPLATE
    )


def test_the_template_is_symmetric_to_a_pixel_and_scales():
    eyes = TEMPLATE[:2].mean(axis=0)
    mouth = TEMPLATE[3:].mean(axis=0)
    assert abs(eyes[0] - 56) < 0.5 and abs(mouth[0] - 56) < 0.5
    assert (TEMPLATE[[0, 3], 0] < TEMPLATE[[1, 4], 0]).all()
    np.testing.assert_allclose(scaled_template(224), 2 * TEMPLATE)
    with pytest.raises(ValueError, match="at least 1"):
        scaled_template(0)


def smooth(height: int, width: int) -> np.ndarray:
    """An image of which every pixel is known between the pixels too."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return at(x, y).round().astype(np.uint8)


def at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack(
        [128 + 90 * np.sin(x / 30), 128 + 90 * np.cos(y / 25), 128 + 90 * np.sin((x + y) / 40)], -1
    )


class TestWarp:
    @pytest.fixture(autouse=True)
    def _opencv(self):
        pytest.importorskip("cv2")

    def test_the_identity_keeps_every_pixel(self):
        image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        assert np.array_equal(warp(image, transform_of(1, 0, 0, 0), 40), image)

    @pytest.mark.parametrize("scale", [3.0, 1.0, 0.7, 0.5, 0.31, 0.2, 0.0997])
    @pytest.mark.parametrize("degrees", [0, 37, -120])
    def test_known_pixels_land_where_the_transform_says(self, scale, degrees):
        side = 64
        image = smooth(900, 1000)
        middle = transform_of(scale, degrees, 0, 0)
        middle[:, 2] = side / 2 - middle[:, :2] @ (480, 450)
        seen = inverse_transform(middle)
        y, x = np.mgrid[:side, :side]
        points = apply_transform(seen, np.column_stack([x.ravel(), y.ravel()]).astype(float))
        inside = ((points > 12) & (points < (987, 887))).all(axis=1).reshape(side, side)
        assert inside.sum() > 1000
        expected = at(points[:, 0], points[:, 1]).reshape(side, side, 3)
        error = np.abs(warp(image, middle, side).astype(float) - expected)[inside]
        assert error.max() < 8  # a shift by a pixel of a crop at scale 0.1 makes 30
        assert error.mean() < 1.0

    def test_a_large_face_is_averaged_and_not_sampled(self):
        """Stripes finer than a pixel of the crop become grey; bare bilinear samples do not."""
        cv2 = pytest.importorskip("cv2")
        image = np.zeros((1000, 1000, 3), np.uint8)
        image[:, ::2] = 255
        shrink = transform_of(0.107, 5, 3.0, 2.0)
        bare = cv2.warpAffine(image, shrink, (80, 80))[10:-10, 10:-10]
        crop = warp(image, shrink, 80)[10:-10, 10:-10]
        assert bare.astype(float).std() > 40
        assert crop.astype(float).std() < 8
        assert abs(crop.mean() - 127.5) < 2

    @pytest.mark.parametrize("factor", [2, 3, 5, 8])
    def test_shrinking_by_a_whole_number_is_the_mean_of_blocks(self, factor):
        rng = np.random.default_rng(factor)
        image = rng.integers(0, 256, (32 * factor, 32 * factor, 3), dtype=np.uint8)
        # Centre of a block of pixels -> centre of a pixel.
        shift = -(factor - 1) / 2 / factor
        crop = warp(image, transform_of(1 / factor, 0, shift, shift), 32)
        blocks = image.reshape(32, factor, 32, factor, 3).mean(axis=(1, 3))
        assert np.abs(crop.astype(float) - blocks).max() <= 1.0

    def test_outside_the_photo_is_black(self):
        image = np.full((50, 50, 3), 200, np.uint8)
        crop = warp(image, transform_of(1, 0, 30, 0), 60)
        assert (crop[:50, 31:] == 200).all()
        assert (crop[:, :29] == 0).all() and (crop[51:] == 0).all()
        assert (warp(image, transform_of(1, 0, 5000, 0), 60) == 0).all()

    def test_a_panorama_wider_than_opencv_takes(self):
        image = np.zeros((20, 40_000, 3), np.uint8)
        image[:, 39_000:] = 77
        assert (warp(image, transform_of(1, 0, -39_500, 0), 20) == 77).all()

    @pytest.mark.parametrize("scale", [2.0, 1.0, 0.85])
    def test_without_much_shrinking_it_is_bilinear_interpolation(self, scale):
        image = np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        transform = transform_of(scale, 12, 4.3, -2.6)
        y, x = np.mgrid[:50, :50].astype(float)
        seen = apply_transform(
            inverse_transform(transform), np.column_stack([x.ravel(), y.ravel()])
        ).T[::-1]
        for channel in range(3):
            expected = map_coordinates(
                image[:, :, channel].astype(float), seen, order=1, mode="grid-constant"
            ).reshape(50, 50)
            error = np.abs(warp(image, transform, 50)[:, :, channel] - expected)
            assert error.max() <= 10  # OpenCV rounds positions to 1/32 pixel
            assert error.mean() < 1.5
