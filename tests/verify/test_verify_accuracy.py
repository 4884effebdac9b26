import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_face.errors import MetricError
from nas_face.verify import best_accuracy, exact_fold_accuracies, ten_fold_accuracy


def gaps(scores: np.ndarray) -> list[tuple[float, float]]:
    """(width, threshold) between neighbouring scores, and at both ends, highest first."""
    levels = sorted(set(scores.tolist()), reverse=True)
    inner = [
        (high - low, low + (high - low) / 2)
        for high, low in zip(levels[:-1], levels[1:], strict=True)
    ]
    return [(0.0, levels[0]), *inner, (0.0, levels[-1] - 1e-9)]


def slow_best(scores: np.ndarray, same: np.ndarray) -> tuple[int, float]:
    """Most right decisions, and the threshold: the widest gap, then the highest."""
    best = (-1, -1.0, -np.inf)
    for width, threshold in gaps(scores):
        n_right = int(np.count_nonzero((scores > threshold) == same))
        best = max(best, (n_right, width, threshold))
    return best[0], best[2]


LISTS = st.lists(st.tuples(st.integers(-16, 16), st.booleans()), min_size=2, max_size=40)


@given(pairs=LISTS)
def test_the_best_accuracy_is_that_of_all_thresholds(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs]) / 16
    same = np.array([kind for _, kind in pairs])
    n_right, threshold = slow_best(scores, same)
    found = best_accuracy(scores, same)
    assert found.accuracy == n_right / len(pairs)
    assert found.threshold == pytest.approx(threshold, abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(pairs=LISTS, n_folds=st.integers(2, 10))
def test_folds_are_judged_at_the_best_threshold_of_the_others(
    pairs: list[tuple[int, bool]], n_folds: int
) -> None:
    scores = np.array([score for score, _ in pairs]) / 16
    same = np.array([kind for _, kind in pairs])
    folds = np.array_split(np.arange(len(pairs)), min(n_folds, len(pairs)))
    found = exact_fold_accuracies(scores, same, n_folds=n_folds)
    assert len(found.accuracies) == len(folds)
    for at, held_out in enumerate(folds):
        others = np.setdiff1d(np.arange(len(pairs)), held_out)
        _, threshold = slow_best(scores[others], same[others])
        right = (scores[held_out] > threshold) == same[held_out]
        assert found.thresholds[at] == pytest.approx(threshold, abs=1e-8)
        assert found.accuracies[at] == pytest.approx(np.mean(right), abs=1e-12)


def test_no_grid_decides_where_all_scores_are_close() -> None:
    # All squared distances lie between two steps of the usual protocol.
    scores = 0.9 + 0.001 * np.array([1.0, 0.0] * 20)
    same = np.array([True, False] * 20)
    assert np.mean(ten_fold_accuracy(scores, same).accuracies) == 0.5
    exact = exact_fold_accuracies(scores, same)
    assert exact.accuracies == (1.0,) * 10
    assert exact.thresholds == pytest.approx((0.9005,) * 10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_neighbouring_numbers_are_told_apart(dtype: type[np.floating]) -> None:
    low = dtype(1.0)
    high = np.nextafter(low, dtype(2.0))
    scores = np.array([high, low] * 5, dtype=dtype)
    same = np.array([True, False] * 5)
    assert best_accuracy(scores, same).accuracy == 1.0
    assert exact_fold_accuracies(scores, same).accuracies == (1.0,) * 10


@pytest.mark.parametrize(("kind", "above"), [(True, True), (False, False)])
def test_pairs_of_one_kind_are_all_accepted_or_all_rejected(kind: bool, above: bool) -> None:
    scores = np.array([-1.0, 0.0, 1.0])
    found = best_accuracy(scores, np.full(3, kind))
    assert found.accuracy == 1.0
    assert bool((scores > found.threshold).all()) is above
    assert bool((scores > found.threshold).any()) is above


def test_input_is_checked() -> None:
    with pytest.raises(MetricError, match="at least 2 pairs"):
        best_accuracy(np.zeros(1), np.array([True]))
    with pytest.raises(MetricError, match="1 of 2"):
        best_accuracy(np.array([0.0, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match="at least 2"):
        exact_fold_accuracies(np.zeros(2), np.array([True, False]), n_folds=1)
