"""Parity figures against plain numpy."""

import numpy as np
import pytest

from nas_face.deploy import Parity, embedding_parity, require_parity
from nas_face.errors import DeployError


def test_figures_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 7)).astype(np.float32)
    b = a + 0.3 * rng.normal(size=(50, 7)).astype(np.float32)
    cosines = [
        np.dot(x, y) / np.sqrt(np.dot(x, x) * np.dot(y, y))
        for x, y in zip(a.astype(float), b.astype(float), strict=True)
    ]
    parity = embedding_parity(a, b)
    assert parity.n_images == 50
    assert parity.min_cosine == pytest.approx(min(cosines))
    assert parity.mean_cosine == pytest.approx(np.mean(cosines))
    assert parity.p01_cosine == pytest.approx(np.percentile(cosines, 1))
    assert parity.max_abs_difference == pytest.approx(np.abs(a - b).max())


def test_length_does_not_matter_but_sign_does():
    a = np.random.default_rng(1).normal(size=(4, 5))
    assert embedding_parity(a, 3 * a).min_cosine == pytest.approx(1)
    assert embedding_parity(a, -a).mean_cosine == pytest.approx(-1)


def test_zero_rows_agree_only_with_zero_rows():
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert embedding_parity(zero, zero).min_cosine == 1
    assert embedding_parity(zero, one).min_cosine == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_pass_no_gate(bad):
    a = np.ones((3, 2))
    b = a.copy()
    b[1, 0] = bad
    for parity in (embedding_parity(a, b), embedding_parity(b, b)):
        assert parity.min_cosine == -1
        assert parity.max_abs_difference == np.inf


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,)), ((0, 3), (0, 3))]
)
def test_arrays_that_cannot_be_compared_are_refused(a, b):
    with pytest.raises(ValueError, match=r"two arrays \(N, D\)"):
        embedding_parity(np.ones(a), np.ones(b))


def test_gate_is_on_the_worst_image():
    parity = Parity(
        n_images=9, min_cosine=0.95, p01_cosine=0.96, mean_cosine=0.99, max_abs_difference=1.0
    )
    require_parity(parity, min_cosine=0.95, where="m.onnx")
    with pytest.raises(DeployError, match=r"^m\.onnx: .* cosine 0\.96 .* got 0\.95000 at worst"):
        require_parity(parity, min_cosine=0.96, where="m.onnx")
