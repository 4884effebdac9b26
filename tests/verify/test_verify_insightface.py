import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from nas_face.errors import MetricError
from nas_face.verify import RowPairs, ValAtFar, val_at_far, verify_embeddings
from nas_face.verify.insightface import fold_accuracies


def slow_accuracies(distances: np.ndarray, same: np.ndarray, n_folds: int) -> list[float]:
    """Accuracy of each fold, threshold by threshold."""
    accuracies = []
    for others, held_out in KFold(n_folds).split(distances):
        n_right = [
            int(np.count_nonzero((distances[others] < threshold) == same[others]))
            for threshold in np.arange(0, 4, 0.01)
        ]
        chosen = np.arange(0, 4, 0.01)[n_right.index(max(n_right))]
        accuracies.append(float(np.mean((distances[held_out] < chosen) == same[held_out])))
    return accuracies


def slow_val(
    distances: np.ndarray, same: np.ndarray, n_folds: int, far: float
) -> tuple[float, float, float]:
    """Mean and deviation of "val" and mean of its FAR, threshold by threshold.

    SciPy's `interp1d` now refuses the repeated FARs that every list has, so the spline of order 1
    that it made of them is made here.
    """
    thresholds = np.arange(0, 4, 0.001)
    vals, fars = [], []
    for others, held_out in KFold(n_folds).split(distances):
        impostors = distances[others][~same[others]]
        rates = np.array([np.mean(impostors < threshold) for threshold in thresholds])
        threshold = 0.0
        if rates.max() >= far:
            knots = np.concatenate([rates[:1], rates, rates[-1:]])
            threshold = float(BSpline.construct_fast(knots, thresholds, 1)(far))
        accepted = distances[held_out] < threshold
        vals.append(np.mean(accepted[same[held_out]]))
        fars.append(np.mean(accepted[~same[held_out]]))
    return float(np.mean(vals)), float(np.std(vals)), float(np.mean(fars))


def embedded(n_pairs: int, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of neighbouring rows that form pairs, every other one of one person."""
    rng = np.random.default_rng(seed)
    same = np.arange(n_pairs) % 2 == 0
    first = rng.normal(size=(n_pairs, 8))
    other = np.where(same[:, None], first, rng.normal(size=first.shape))
    match kind:
        case "random":
            second = other + rng.normal(size=first.shape)
        case "tied":  # few distances, all of which repeat: 0, 2, 4, and some between
            first = np.eye(3)[rng.integers(0, 3, n_pairs)]
            second = rng.integers(-1, 2, (n_pairs, 3)) + 0.0
            second[(second == 0).all(axis=1)] = first[0]
        case "all same":
            first = second = np.ones((n_pairs, 8))
        case "opposite":
            second = np.where(same[:, None], first, -first)
        case "all opposite":
            second = -first
        case "swapped":  # the genuine ones are the far ones
            second = np.where(same[:, None], -first, first)
        case "orthogonal":  # a distance of 2, on both grids
            first = np.tile([1.0, 0, 0, 0], (n_pairs, 1))
            second = np.where(same[:, None], first, np.roll(first, 1, axis=1))
        case _:
            raise AssertionError(kind)
    rows = np.empty((2 * n_pairs, first.shape[1]))
    rows[0::2], rows[1::2] = first, second
    return rows, same


KINDS = ["random", "tied", "all same", "opposite", "all opposite", "swapped", "orthogonal"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_pairs", [100, 63])
@pytest.mark.parametrize("kind", KINDS)
def test_all_figures_are_those_of_plain_loops(
    kind: str, n_pairs: int, dtype: type[np.floating]
) -> None:
    rows, same = embedded(n_pairs, kind, seed=n_pairs)
    rows = rows.astype(dtype)
    units = normalize(rows.astype(np.float64))
    distances = ((units[0::2] - units[1::2]) ** 2).sum(axis=1)
    result = verify_embeddings(rows, RowPairs(same=same))
    accuracies = slow_accuracies(distances, same, 10)
    assert result.fold_accuracies == pytest.approx(accuracies, abs=1e-9)
    assert result.accuracy == pytest.approx(np.mean(accuracies), abs=1e-9)
    assert result.accuracy_std == pytest.approx(np.std(accuracies), abs=1e-9)
    found = result.insightface_val
    assert found is not None
    expected = slow_val(distances, same, 10, 1e-3)
    assert (found.val, found.val_std, found.far) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=12, deadline=None)
@given(
    levels=st.lists(st.integers(0, 16), min_size=12, max_size=40),
    far=st.sampled_from([0.05, 0.1, 0.25, 1 / 3, 0.5, 1.0]),
    n_folds=st.integers(2, 3),
)
def test_val_of_tied_distances_is_that_of_plain_loops(
    levels: list[int], far: float, n_folds: int
) -> None:
    distances = np.array(levels) / 4  # on the grid, the last ones beyond its end
    same = np.arange(len(levels)) % 2 == 0
    found = val_at_far(distances, same, n_folds=n_folds, far=far)
    expected = slow_val(distances, same, n_folds, far)
    assert (found.val, found.val_std, found.far) == pytest.approx(expected, abs=1e-9)


def test_val_by_hand() -> None:
    # On the other fold 1 of 2 impostors lies below any threshold over 1. So FAR 0.5 lasts up to
    # the last threshold that is not over 3, which is the one that counts.
    distances = np.array([0.5, 2.9, 1.0, 3.0] * 2)
    same = np.array([True, True, False, False] * 2)
    found = val_at_far(distances, same, n_folds=2, far=0.5)
    assert found == ValAtFar(val=1.0, val_std=0.0, far=0.5)


def test_a_far_that_is_never_reached_accepts_nothing() -> None:
    distances = np.array([0.0, 4.0] * 10)
    same = np.array([True, False] * 10)
    assert val_at_far(distances, same) == ValAtFar(val=0.0, val_std=0.0, far=0.0)


def test_the_longer_folds_come_first() -> None:
    # 13 pairs in 3 folds: 5, 4, 4. One wrong pair in each shows their lengths.
    distances = np.array([0.0, 4.0] * 6 + [0.0])
    same = distances == 0
    for wrong in (0, 5, 9):
        same[wrong] = not same[wrong]
    assert fold_accuracies(distances, same, n_folds=3).accuracies == (4 / 5, 3 / 4, 3 / 4)


def test_val_needs_both_kinds_in_every_fold() -> None:
    distances = np.linspace(0, 3, 20)
    same = np.arange(20) < 10
    with pytest.raises(MetricError, match="got 2 same and 0 different in fold 1 of 10"):
        val_at_far(distances, same)
    rows = np.random.default_rng(0).normal(size=(40, 4))
    assert verify_embeddings(rows, RowPairs(same=same)).insightface_val is None


@pytest.mark.parametrize("far", [0.0, 1.5, np.nan])
def test_the_far_of_val_is_checked(far: float) -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        val_at_far(np.zeros(4), np.array([True, False] * 2), n_folds=2, far=far)
