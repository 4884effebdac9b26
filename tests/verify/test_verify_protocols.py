import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from nas_face.errors import MetricError
from nas_face.verify import (
    REPORTED_FARS,
    Resampling,
    auc,
    best_accuracy,
    cosine_scores,
    eer,
    exact_fold_accuracies,
    log_tar,
    tar_at_far,
    ten_fold_accuracy,
    verify_embeddings,
    wilson_interval,
)


@dataclass(frozen=True)
class Pairs:
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    n_folds: int = 10


def reference(
    distances: np.ndarray, same: np.ndarray, n_folds: int
) -> tuple[list[float], list[float]]:
    """The protocol in plain loops: accuracies, and thresholds as squared distances."""
    thresholds = np.arange(0, 4, 0.01)
    accuracies, chosen = [], []
    for others, held_out in KFold(n_folds, shuffle=False).split(distances):
        best_threshold, best_accuracy = 0.0, -1.0
        for threshold in thresholds:
            accuracy = np.mean((distances[others] < threshold) == same[others])
            if accuracy > best_accuracy:
                best_threshold, best_accuracy = threshold, accuracy
        chosen.append(best_threshold)
        accuracies.append(float(np.mean((distances[held_out] < best_threshold) == same[held_out])))
    return accuracies, chosen


def made_up_faces(n: int, noise: float, n_folds: int, seed: int) -> tuple[np.ndarray, Pairs]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n, 16))
    embeddings = np.concatenate([centres, centres]) + rng.normal(size=(2 * n, 16)) * noise
    different = rng.permutation(n)
    first = np.concatenate([np.arange(n), np.arange(n)])
    second = np.concatenate([np.arange(n) + n, (np.arange(n) + 1 + different % (n - 1)) % n + n])
    same = first == second - n
    mixed = rng.permutation(2 * n)
    return embeddings * 40, Pairs(first[mixed], second[mixed], same[mixed], n_folds)


@pytest.mark.parametrize("n_folds", [2, 3, 5, 10])
@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_the_protocol_is_that_of_plain_loops_over_embeddings(n_folds: int, noise: float) -> None:
    embeddings, pairs = made_up_faces(61, noise, n_folds, seed=n_folds)
    units = embeddings / np.sqrt((embeddings**2).sum(axis=1, keepdims=True))
    distances = ((units[pairs.first] - units[pairs.second]) ** 2).sum(axis=1)
    accuracies, chosen = reference(distances, pairs.same, n_folds)
    result = verify_embeddings(embeddings, pairs)
    assert result.fold_accuracies == pytest.approx(accuracies, abs=1e-12)
    assert result.accuracy == pytest.approx(np.mean(accuracies))
    assert result.accuracy_std == pytest.approx(np.std(accuracies))
    assert result.threshold == pytest.approx(1 - np.median(chosen) / 2)


@settings(max_examples=40, deadline=None)
@given(
    levels=st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=2, max_size=30),
    n_folds=st.integers(2, 10),
)
def test_ties_and_grid_points_are_decided_as_in_plain_loops(
    levels: list[tuple[int, bool]], n_folds: int
) -> None:
    # Eighths: distances such as 2.25 and 1.0, which are exact, on the grid or between.
    scores = np.array([level for level, _ in levels]) / 8
    same = np.array([kind for _, kind in levels])
    n_possible = min(n_folds, len(scores))
    accuracies, chosen = reference(2 - 2 * scores, same, n_possible)
    folds = ten_fold_accuracy(scores, same, n_folds=n_folds)
    assert folds.accuracies == pytest.approx(accuracies, abs=1e-12)
    assert folds.thresholds == pytest.approx([1 - threshold / 2 for threshold in chosen])


def test_the_first_of_equal_thresholds_wins() -> None:
    # Every distance in (1, 2] separates perfectly, and the grid's first above 1 is 1.01.
    scores = np.array([0.5, 0.0] * 10)
    same = np.array([True, False] * 10)
    folds = ten_fold_accuracy(scores, same, n_folds=10)
    assert folds.accuracies == (1.0,) * 10
    assert folds.thresholds == pytest.approx((1 - 1.01 / 2,) * 10)


def test_order_matters_because_folds_are_contiguous() -> None:
    _, pairs = made_up_faces(60, 1.0, 10, seed=0)
    scores = np.random.default_rng(0).normal(pairs.same * 0.3, 0.3).clip(-1, 1)
    mixed = np.random.default_rng(1).permutation(len(scores))
    assert (
        ten_fold_accuracy(scores, pairs.same).accuracies
        != ten_fold_accuracy(scores[mixed], pairs.same[mixed]).accuracies
    )


def test_a_result_is_made_of_the_metrics() -> None:
    embeddings, pairs = made_up_faces(200, 1.2, 10, seed=1)
    scores = cosine_scores(embeddings, pairs.first, pairs.second)
    result = verify_embeddings(embeddings, pairs)
    assert result.auc == auc(scores, pairs.same)
    assert result.eer == eer(scores, pairs.same)
    assert result.log_tar == log_tar(scores, pairs.same)
    assert result.tar_at_far == tuple(
        (far, tar_at_far(scores, pairs.same, far)) for far in (1e-1, 1e-2)
    )
    assert (result.n_same, result.n_different) == (200, 200)
    assert 0.5 < result.accuracy < 1.0


@pytest.mark.parametrize(
    ("n_different", "n_fars"), [(9, 0), (10, 1), (99, 1), (100, 2), (10_000, 4)]
)
def test_only_supported_false_accept_rates_are_stated(n_different: int, n_fars: int) -> None:
    embeddings = np.random.default_rng(0).normal(size=(20, 4))
    first = np.zeros(n_different + 1, dtype=np.int64)
    second = np.arange(n_different + 1) % 19 + 1
    same = np.arange(n_different + 1) == 0
    result = verify_embeddings(embeddings, Pairs(first, second, same))
    assert [far for far, _ in result.tar_at_far] == list(REPORTED_FARS[:n_fars])
    assert (result.log_tar is None) == (n_fars == 0)


def test_an_operating_point_says_what_it_accepts() -> None:
    embeddings, pairs = made_up_faces(200, 1.2, 10, seed=1)
    scores = cosine_scores(embeddings, pairs.first, pairs.second)
    result = verify_embeddings(embeddings, pairs)
    for point in result.operating_points:
        assert point.threshold is not None
        accepted = scores >= point.threshold
        assert np.count_nonzero(accepted & ~pairs.same) == point.n_false_accepts
        assert point.n_false_accepts <= point.far * 200
        n_true = int(np.count_nonzero(accepted & pairs.same))
        assert point.tar == n_true / 200
        assert point.interval == wilson_interval(n_true, 200)


def test_what_the_pairs_do_not_support_is_refused_by_number() -> None:
    embeddings, pairs = made_up_faces(150, 1.2, 10, seed=1)
    refused = verify_embeddings(embeddings, pairs).refused_fars
    assert [each.far for each in refused] == [1e-3, 1e-4, 1e-5, 1e-6]
    for each in refused:
        assert f"at least {round(1 / each.far)} pairs" in each.reason
        assert "got 150" in each.reason


def test_where_even_the_top_is_shared_there_is_no_threshold() -> None:
    result = verify_embeddings(np.ones((2, 3)), Pairs(*np.zeros((2, 20), int), np.arange(20) < 5))
    assert [(point.tar, point.threshold) for point in result.operating_points] == [(0.0, None)]
    assert (result.auc, result.eer) == (0.5, 0.5)


def test_accuracies_without_a_grid_are_those_of_their_functions() -> None:
    embeddings, pairs = made_up_faces(100, 1.5, 10, seed=3)
    scores = cosine_scores(embeddings, pairs.first, pairs.second)
    result = verify_embeddings(embeddings, pairs)
    exact = exact_fold_accuracies(scores, pairs.same)
    assert result.exact_accuracy == pytest.approx(np.mean(exact.accuracies), abs=1e-12)
    assert result.exact_accuracy_std == pytest.approx(np.std(exact.accuracies), abs=1e-12)
    assert result.best == best_accuracy(scores, pairs.same)
    n_right = round(result.accuracy * 200)
    assert result.accuracy_interval == wilson_interval(n_right, 200)


def test_resampling_adds_intervals_and_changes_nothing_else() -> None:
    embeddings, pairs = made_up_faces(100, 1.2, 10, seed=4)
    plain = verify_embeddings(embeddings, pairs)
    people = np.arange(200) % 100
    found = verify_embeddings(embeddings, pairs, resampling=Resampling(identities=people))
    assert dataclasses.replace(found, bootstrap=None) == plain
    assert found.bootstrap is not None
    assert found.bootstrap.by == "identities"
    assert found.bootstrap.accuracy is not None
    assert found.accuracy in found.bootstrap.accuracy
    assert found.auc in found.bootstrap.auc
    assert found.eer in found.bootstrap.eer
    for (far, tar), (of, interval) in zip(
        found.tar_at_far, found.bootstrap.tar_at_far, strict=True
    ):
        assert far == of
        assert tar in interval
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["bootstrap"]["by"]


@pytest.mark.parametrize("n_pairs", [2, 3, 9, 11])
def test_tiny_lists_use_as_many_folds_as_they_can(n_pairs: int) -> None:
    embeddings = np.eye(3)
    same = np.arange(n_pairs) == 0
    first = np.zeros(n_pairs, dtype=np.int64)
    second = np.where(same, 0, 1)
    result = verify_embeddings(embeddings, Pairs(first, second, same))
    assert len(result.fold_accuracies) == min(10, n_pairs)
    assert result.auc == 1.0
    assert result.eer == 0.0


def test_identical_and_opposite_embeddings_are_decided() -> None:
    embeddings = np.array([[0.1, 0.7, 0.3], [-0.1, -0.7, -0.3]])
    pairs = Pairs(np.zeros(20, int), np.arange(20) % 2, np.arange(20) % 2 == 0)
    result = verify_embeddings(embeddings, pairs)
    assert result.accuracy == 1.0
    assert result.accuracy_std == 0.0
    assert result.threshold == pytest.approx(1 - 0.01 / 2)


def test_a_result_goes_into_json() -> None:
    embeddings, pairs = made_up_faces(50, 1.0, 10, seed=2)
    result = verify_embeddings(embeddings, pairs)
    back = json.loads(json.dumps(result.as_dict()))
    assert back["accuracy"] == result.accuracy
    assert back["tar_at_far"] == {"0.1": result.tar_at_far[0][1]}
    assert back["fold_accuracies"] == list(result.fold_accuracies)
    assert set(back) == {*type(result).__dataclass_fields__, "tar_at_far"}


@pytest.mark.parametrize(
    ("rows", "value", "message"), [([1], 0.0, "zero.* got 1 of 4"), ([0, 2], np.nan, "got 2 of 4")]
)
def test_bad_embeddings_are_counted(rows: list[int], value: float, message: str) -> None:
    embeddings = np.random.default_rng(0).normal(size=(4, 3))
    embeddings[rows] = value
    pairs = Pairs(np.array([0, 1]), np.array([2, 3]), np.array([True, False]))
    with pytest.raises(MetricError, match=message):
        verify_embeddings(embeddings, pairs)


@pytest.mark.parametrize("kinds", [[True, True], [False, False], []])
def test_lists_of_one_kind_are_refused(kinds: list[bool]) -> None:
    index = np.zeros(len(kinds), dtype=np.int64)
    with pytest.raises(MetricError, match="same and .* different"):
        verify_embeddings(np.ones((2, 2)), Pairs(index, index, np.array(kinds, dtype=bool)))


@pytest.mark.parametrize(
    ("scores", "same", "n_folds", "error", "message"),
    [
        ([0.1, 0.2], [True, False], 1, ValueError, "n_folds must be at least 2"),
        ([0.1], [True, False], 2, ValueError, "of one shape"),
        ([0.1, 0.2], [1, 0], 2, ValueError, "type bool"),
        ([0.1], [True], 2, MetricError, "at least 2 pairs"),
        ([0.1, np.nan], [True, False], 2, MetricError, "1 of 2"),
    ],
)
def test_folds_check_their_input(
    scores: list[float], same: list[int], n_folds: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ten_fold_accuracy(np.array(scores), np.array(same), n_folds=n_folds)
