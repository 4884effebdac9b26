import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.verify import Roc, corners, roc, thinned


def made_up(n: int, share: float, seed: int) -> Roc:
    rng = np.random.default_rng(seed)
    same = rng.random(n) < share
    same[:2] = True, False
    return roc(rng.normal(same * 1.5), same)


@given(
    scores=st.lists(st.integers(0, 9), min_size=2, max_size=40),
    kinds=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_corners_draw_the_same_line(scores: list[int], kinds: list[bool]) -> None:
    same = np.array([True, False, *kinds[2 : len(scores)]])
    curve = roc(np.array(scores) / 9, same)
    fewer = corners(curve)
    kept = set(zip(fewer.false_accepts.tolist(), fewer.true_accepts.tolist(), strict=True))
    for far, tar in zip(curve.false_accepts.tolist(), curve.true_accepts.tolist(), strict=True):
        # what was left out lies on a level or an upright line between two kept points
        on_level = any(x <= far for x, y in kept if y == tar) and any(
            x >= far for x, y in kept if y == tar
        )
        upright = any(y <= tar for x, y in kept if x == far) and any(
            y >= tar for x, y in kept if x == far
        )
        assert on_level or upright
    assert kept <= set(zip(curve.false_accepts.tolist(), curve.true_accepts.tolist(), strict=True))
    assert len(corners(fewer).thresholds) == len(fewer.thresholds)


def test_a_perfect_curve_has_three_corners() -> None:
    same = np.arange(100) < 50
    curve = corners(roc(np.where(same, 2.0, 0.0) + np.arange(100) / 100, same))
    assert list(zip(curve.false_accepts, curve.true_accepts, strict=True)) == [
        (0, 0),
        (0, 50),
        (50, 50),
    ]


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_a_thinned_curve_stays_within_a_column(share: float) -> None:
    curve = made_up(200_000, share, seed=0)
    fewer = thinned(curve, n_columns=500)
    assert len(fewer.thresholds) <= 1006
    assert (fewer.false_accepts[0], fewer.true_accepts[0]) == (0, 0)
    assert (fewer.false_accepts[-1], fewer.true_accepts[-1]) == (curve.n_different, curve.n_same)
    # At every point of the curve the thinned one passes it, a column to the left or the right.
    widest = np.log(curve.n_different - 1)
    inner = (curve.false_accepts > 0) & (curve.false_accepts < curve.n_different)
    far, tar = curve.far[inner], curve.tar[inner]
    logit = np.log(far / (1 - far))
    for shift, sign in ((-1, -1), (1, 1)):
        moved = logit + shift * 2 * widest / 500 * 1.001
        there = np.interp(1 / (1 + np.exp(-moved)), fewer.far, fewer.tar)
        assert (sign * (there - tar) >= -1e-12).all()


def test_a_curve_of_few_points_is_kept() -> None:
    curve = made_up(60, 0.5, seed=1)
    fewer, turned = thinned(curve), corners(curve)
    assert np.array_equal(fewer.thresholds, turned.thresholds)


@pytest.mark.parametrize("scores", [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
def test_two_pairs_make_a_curve(scores: list[float]) -> None:
    curve = thinned(roc(np.array(scores), np.array([True, False])))
    assert (curve.far[-1], curve.tar[-1]) == (1.0, 1.0)


def test_columns_are_checked() -> None:
    with pytest.raises(ValueError, match="n_columns"):
        thinned(made_up(10, 0.5, seed=0), n_columns=0)
