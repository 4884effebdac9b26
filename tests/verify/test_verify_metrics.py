import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.preprocessing import normalize

from nas_face.errors import MetricError
from nas_face.verify import (
    auc,
    cosine_scores,
    eer,
    log_tar,
    metrics,
    roc,
    squared_distances,
    tar_at_far,
)

METRICS = {
    "roc": roc,
    "auc": auc,
    "eer": eer,
    "tar_at_far": lambda scores, same: tar_at_far(scores, same, 1.0),
    "log_tar": lambda scores, same: log_tar(scores, same, max_far=1.0),
}


@st.composite
def scored_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, at least one pair of each kind."""
    n = draw(st.integers(2, 40))
    levels = draw(st.integers(1, 12))
    scores = draw(st.lists(st.integers(0, levels), min_size=n, max_size=n))
    same = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    same[0], same[1] = True, False
    return np.array(scores) / 7.0 - 1.0, np.array(same)


def gaussian(
    n_same: int, n_different: int, shift: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = np.arange(n_same + n_different) < n_same
    return rng.normal(shift * same, 1.0), same


def brute_auc(scores: np.ndarray, same: np.ndarray) -> float:
    wins = [
        1.0 if genuine > impostor else 0.5 if genuine == impostor else 0.0
        for genuine in scores[same]
        for impostor in scores[~same]
    ]
    return sum(wins) / len(wins)


def brute_tar(scores: np.ndarray, same: np.ndarray, far: float) -> float:
    """The best TAR over all thresholds whose FAR is not above `far`."""
    best = 0.0
    for threshold in [*np.unique(scores), np.inf]:
        accepted = scores >= threshold
        if np.mean(accepted[~same]) <= far + 1e-12:
            best = max(best, float(np.mean(accepted[same])))
    return best


@given(pairs=scored_pairs())
def test_the_curve_is_that_of_scikit_learn(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    scores, same = pairs
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    curve = roc(scores, same)
    assert np.allclose(curve.far, far, rtol=0, atol=1e-15)
    assert np.allclose(curve.tar, tar, rtol=0, atol=1e-15)
    assert np.array_equal(curve.thresholds, thresholds)


@given(pairs=scored_pairs())
def test_auc_counts_a_tie_as_one_half(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    assert auc(*pairs) == pytest.approx(brute_auc(*pairs), abs=1e-14)
    assert auc(*pairs) == pytest.approx(roc_auc_score(pairs[1], pairs[0]), abs=1e-12)


def test_auc_of_many_pairs_is_that_of_scikit_learn() -> None:
    scores, same = gaussian(2_000, 100_000, 1.5, 0)
    assert auc(scores, same) == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


@given(pairs=scored_pairs())
def test_eer_lies_on_the_curve_where_the_errors_are_equal(
    pairs: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, same = pairs
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    crossings = []
    for k in range(1, len(far)):
        # far + t * step = 1 - tar - t * rise, solved on each segment
        step, rise = far[k] - far[k - 1], tar[k] - tar[k - 1]
        t = (1 - tar[k - 1] - far[k - 1]) / (step + rise)
        if -1e-12 <= t <= 1 + 1e-12:
            crossings.append(far[k - 1] + t * step)
    assert eer(scores, same) == pytest.approx(min(crossings), abs=1e-12)
    assert max(crossings) == pytest.approx(min(crossings), abs=1e-12)


def test_eer_of_two_normal_distributions_is_the_known_one() -> None:
    scores, same = gaussian(100_000, 100_000, 2.0, 1)
    assert eer(scores, same) == pytest.approx(0.5 * math.erfc(1 / math.sqrt(2)), abs=0.003)


@given(pairs=scored_pairs(), far=st.sampled_from([0.01, 0.1, 0.2, 0.25, 0.5, 0.7, 1.0]))
def test_tar_at_far_is_the_best_of_all_thresholds(
    pairs: tuple[np.ndarray, np.ndarray], far: float
) -> None:
    scores, same = pairs
    n_different = np.count_nonzero(~same)
    if far * n_different < 1:
        with pytest.raises(
            MetricError, match=f"at least {math.ceil(1 / far)} pairs .* {n_different};"
        ):
            tar_at_far(scores, same, far)
    else:
        assert tar_at_far(scores, same, far) == brute_tar(scores, same, far)


@pytest.mark.parametrize("n_different", [10, 1000, 3000, 7000, 10_000, 30_000])
@pytest.mark.parametrize("far", [1e-1, 1e-2, 1e-3, 1e-4])
def test_rounding_never_costs_an_accept(n_different: int, far: float) -> None:
    expected = n_different // round(1 / far)
    assert metrics.n_accepts_allowed(far, n_different) == expected


@given(pairs=scored_pairs(), max_far=st.sampled_from([0.2, 0.34, 0.5, 1.0]))
def test_log_tar_is_the_mean_over_a_fine_grid(
    pairs: tuple[np.ndarray, np.ndarray], max_far: float
) -> None:
    scores, same = pairs
    n = np.count_nonzero(~same)
    if max_far * n < 1:
        with pytest.raises(MetricError, match="log_tar up to FAR"):
            log_tar(scores, same, max_far=max_far)
        return
    edges = np.exp(np.linspace(math.log(1 / n), math.log(max_far), 401))
    middles = np.sqrt(edges[1:] * edges[:-1])
    grid = np.mean([brute_tar(scores, same, far) for far in middles])
    # A grid of 400 cells misplaces each step by a cell at most; all steps together rise by 1.
    assert log_tar(scores, same, max_far=max_far) == pytest.approx(grid, abs=1 / 400 + 1e-9)


def test_log_tar_by_hand() -> None:
    # 20 impostors, up to FAR 0.1: 1 false accept is TAR 1/4 on all of [1/20, 2/20).
    same = np.array([True] * 4 + [False] * 20)
    scores = np.array([9.0, 5.5, 0.5, 0.5, 7.0, 6.0, 5.0, *[1.0] * 17])
    assert log_tar(scores, same) == pytest.approx(0.25)
    # Up to FAR 0.15: 2 false accepts reach TAR 1/2 on [2/20, 3/20).
    expected = (0.25 * math.log(2) + 0.5 * math.log(1.5)) / math.log(3)
    assert log_tar(scores, same, max_far=0.15) == pytest.approx(expected)


@given(pairs=scored_pairs())
def test_values_lie_between_0_and_1(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    for name in ("auc", "eer", "tar_at_far", "log_tar"):
        value = METRICS[name](*pairs)
        assert isinstance(value, float)
        assert 0.0 <= value <= 1.0


@given(pairs=scored_pairs())
def test_order_scale_and_type_do_not_matter(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    scores, same = pairs
    mixed = np.random.default_rng(0).permutation(len(scores))
    for name in ("auc", "eer", "tar_at_far", "log_tar"):
        value = METRICS[name](scores, same)
        assert METRICS[name](scores[mixed], same[mixed]) == value
        assert METRICS[name](scores * 1000 + 3, same) == value
        assert METRICS[name](scores.astype(np.float32), same) == value


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([2.0, 3.0, 0.0, 1.0], {"auc": 1.0, "eer": 0.0, "log_tar": 1.0}),
        ([0.0, 1.0, 2.0, 3.0], {"auc": 0.0, "eer": 1.0, "log_tar": 0.0}),
        ([1.0, 1.0, 1.0, 1.0], {"auc": 0.5, "eer": 0.5, "log_tar": 0.0}),
    ],
)
def test_extremes(scores: list[float], expected: dict[str, float]) -> None:
    same = np.array([True, True, False, False])
    for name, value in expected.items():
        assert METRICS[name](np.array(scores), same) == value


def test_one_pair_of_a_kind_is_enough() -> None:
    same = np.array([True, False])
    for scores, area in (([1.0, -1.0], 1.0), ([-1.0, 1.0], 0.0), ([-0.0, 0.0], 0.5)):
        assert auc(np.array(scores), same) == area
        assert eer(np.array(scores), same) == 1.0 - area
        assert tar_at_far(np.array(scores), same, 1.0) == 1.0


@pytest.mark.parametrize("share", [0.5, 0.001, 0.999])
def test_single_precision_is_not_widened(share: float) -> None:
    # Neighbouring float32 scores must stay apart, and equal ones together.
    rng = np.random.default_rng(0)
    same = rng.random(50_000) < share
    scores = rng.normal(same * 0.5, 0.1).astype(np.float32)
    curve, wide = roc(scores, same), roc(scores.astype(np.float64), same)
    assert len(np.unique(scores)) < 50_000
    for name in ("thresholds", "false_accepts", "true_accepts"):
        assert np.array_equal(getattr(curve, name), getattr(wide, name))
    assert curve.auc() == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


def test_distances_are_those_of_unit_vectors() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(300, 24)) * 5
    embeddings[7] = embeddings[8] = 2.0
    embeddings[9] = -3.0
    first, second = rng.integers(0, 300, (2, 500))
    first[:3], second[:3] = [7, 7, 7], [7, 8, 9]
    found = squared_distances(embeddings, first, second)
    units = normalize(embeddings)
    assert np.array_equal(found, np.sum((units[first] - units[second]) ** 2, axis=1))
    assert found[:3] == pytest.approx([0.0, 0.0, 4.0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(metric: str, bad: float) -> None:
    with pytest.raises(MetricError, match="1 of 4"):
        METRICS[metric](np.array([0.1, bad, 0.3, 0.4]), np.array([True, True, False, False]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kinds", [[True, True], [False, False], []])
def test_pairs_of_one_kind_are_refused(metric: str, kinds: list[bool]) -> None:
    with pytest.raises(MetricError, match="same and .* different"):
        METRICS[metric](np.zeros(len(kinds)), np.array(kinds, dtype=bool))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("same", [np.array([True]), np.array([1, 0]), np.array([[True, False]])])
def test_shapes_and_types_are_checked(metric: str, same: np.ndarray) -> None:
    with pytest.raises(ValueError, match="of one shape"):
        METRICS[metric](np.zeros(2), same)


@pytest.mark.parametrize("far", [0.0, -0.1, 1.1, np.nan])
def test_false_accept_rates_are_checked(far: float) -> None:
    scores, same = gaussian(5, 20, 1.0, 0)
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        tar_at_far(scores, same, far)
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        log_tar(scores, same, max_far=far)


def test_cosines_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 8)).astype(np.float32)
    first, second = rng.integers(0, 30, (2, 50_000))  # more than is multiplied at once
    scores = cosine_scores(embeddings, first, second)
    assert scores.shape == (50_000,)
    wide = embeddings.astype(np.float64)
    for pair in range(0, 50_000, 97):
        a, b = wide[first[pair]], wide[second[pair]]
        expected = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
        assert scores[pair] == pytest.approx(expected, abs=1e-12)
    assert abs(scores).max() <= 1.0


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1.0, 1e20, 1e300])
def test_the_length_of_embeddings_does_not_matter(scale: float) -> None:
    embeddings = np.array([[3.0, 4.0], [4.0, 3.0]]) * scale
    assert cosine_scores(embeddings, np.array([0]), np.array([1]))[0] == pytest.approx(0.96)


def test_half_precision_embeddings_are_taken() -> None:
    embeddings = np.array([[300.0, 400.0], [400.0, 300.0]], dtype=np.float16)
    assert cosine_scores(embeddings, np.array([0]), np.array([1]))[0] == pytest.approx(0.96)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (0.0, "must not be zero.* got 2 of 5"),
        (np.nan, "finite, got 2 of 5"),
        (np.inf, "got 2 of 5"),
    ],
)
def test_bad_embeddings_are_counted(bad: float, message: str) -> None:
    embeddings = np.ones((5, 3))
    embeddings[[1, 3]] = bad
    with pytest.raises(MetricError, match=message):
        cosine_scores(embeddings, np.array([0]), np.array([2]))


def test_embeddings_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        cosine_scores(np.ones(3), np.array([0]), np.array([0]))
    with pytest.raises(IndexError):
        cosine_scores(np.ones((3, 2)), np.array([0]), np.array([3]))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(metrics).failed == 0
