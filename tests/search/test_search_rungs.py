"""Early stopping: ranks against brute force and against Optuna's own front."""

import math

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_face.errors import ConfigError
from nas_face.search import Rungs, pareto_ranks
from nas_face.search.rungs import crowding_distance

points = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5).map(float))
)


def dominates(a, b) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


def brute_ranks(values) -> list[int]:
    """Length of the longest chain of points that dominate one another above each point."""

    def rank(at: int) -> int:
        above = [rank(other) for other, each in enumerate(values) if dominates(each, values[at])]
        return 1 + max(above, default=-1)

    return [rank(at) for at in range(len(values))]


@given(values=points)
def test_ranks_are_those_of_brute_force(values):
    assert pareto_ranks(values).tolist() == brute_ranks(values.tolist())


@settings(max_examples=30, deadline=None)
@given(values=points)
def test_fronts_are_optunas(values):
    """Optuna's front, peeled off again and again."""
    left = dict(enumerate(values.tolist()))
    ranks = pareto_ranks(values)
    for rank in range(int(ranks.max()) + 1):
        study = optuna.create_study(directions=["minimize"] * values.shape[1])
        study.add_trials([optuna.trial.create_trial(values=each) for each in left.values()])
        numbers = list(left)
        front = {numbers[trial.number] for trial in study.best_trials}
        assert front == set(np.flatnonzero(ranks == rank).tolist())
        left = {number: each for number, each in left.items() if number not in front}
    assert left == {}


@given(values=points, seed=st.integers(0, 1000))
def test_ranks_do_not_depend_on_order_or_units(values, seed):
    order = np.random.default_rng(seed).permutation(len(values))
    assert pareto_ranks(values[order]).tolist() == pareto_ranks(values)[order].tolist()
    assert pareto_ranks(values * 3 + 1).tolist() == pareto_ranks(values).tolist()


def test_crowding_distance_by_hand():
    """A front of five; distances from the neighbours along each axis, over the axis's span."""
    front = np.array([[0, 10], [1, 7], [4, 4], [5, 3], [10, 0]], dtype=np.float64)
    expected = [math.inf, 4 / 10 + 6 / 10, 4 / 10 + 4 / 10, 6 / 10 + 4 / 10, math.inf]
    np.testing.assert_allclose(crowding_distance(front), expected)


@given(
    values=st.integers(3, 8).flatmap(
        lambda n: st.lists(st.permutations(range(n)), min_size=1, max_size=3)
    ),
    gaps=st.lists(st.floats(0.1, 5), min_size=8, max_size=8),
)
def test_crowding_distance_by_definition(values, gaps):
    """Distinct values on each axis, so that neighbours are beyond dispute."""
    scale = np.cumsum(gaps)
    table = scale[np.array(values)].T
    expected = np.zeros(len(table))
    for column in table.T:
        span = max(column) - min(column)
        for at, value in enumerate(column):
            below = [other for other in column if other < value]
            above = [other for other in column if other > value]
            inside = bool(below) and bool(above)
            expected[at] += (min(above) - max(below)) / span if inside else math.inf
    np.testing.assert_allclose(crowding_distance(table), expected)


def test_points_that_agree_on_an_axis_have_no_distance_there():
    distance = crowding_distance(np.array([[0.0, 5], [1, 5], [2, 5], [3, 5]]))
    np.testing.assert_allclose(distance, [math.inf, 2 / 3, 2 / 3, math.inf])


@pytest.mark.parametrize(
    ("value", "goes_on"), [(0, True), (1.5, True), (2.5, True), (3.5, False), (5, False)]
)
def test_the_better_half_goes_on(value, goes_on):
    """With the candidate there are five; the best three of them go on."""
    assert Rungs(epochs=(1,)).promotes([value], [[1], [2], [3], [4]]) is goes_on


@given(
    others=st.lists(st.integers(0, 100).map(float), max_size=15, unique=True),
    value=st.integers(0, 99).map(lambda each: each + 0.5),
    keep=st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]),
    n_warmup=st.integers(1, 6),
)
def test_one_objective_is_a_plain_ranking(others, value, keep, n_warmup):
    rungs = Rungs(epochs=(1,), keep=keep, n_warmup=n_warmup)
    better = sum(each < value for each in others)
    free = len(others) < n_warmup
    expected = free or better < max(1, math.ceil(keep * (len(others) + 1)))
    assert rungs.promotes([value], [[each] for each in others]) is expected


def test_the_first_ones_pass_freely():
    rungs = Rungs(epochs=(1,), keep=0.1, n_warmup=3)
    assert rungs.promotes([9, 9], [])
    assert rungs.promotes([9, 9], [[0, 0], [1, 1]])
    assert not rungs.promotes([9, 9], [[0, 0], [1, 1], [2, 2]])


def test_a_trade_off_goes_on_where_a_dominated_candidate_does_not():
    others = [[0, 4], [4, 0], [5, 5], [6, 6], [7, 7]]
    rungs = Rungs(epochs=(1,), keep=0.5)
    assert rungs.promotes([1, 3], others)
    assert not rungs.promotes([5.5, 5.5], others)


def test_among_equals_in_rank_the_lonelier_goes_on():
    crowd = [[0, 10], [4.9, 5.1], [5, 5], [5.1, 4.9], [10, 0]]
    rungs = Rungs(epochs=(1,), keep=0.6)  # four of six
    assert rungs.promotes([2, 7], crowd)
    assert not rungs.promotes([5.05, 4.95], crowd)


def test_everybody_goes_on_where_all_are_kept():
    assert Rungs(epochs=(1,), keep=1.0).promotes([9], [[0]] * 9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": (0,)}, r"rungs.epochs must rise from 1, got \[0\]"),
        ({"epochs": (2, 2)}, r"rungs.epochs must rise from 1, got \[2, 2\]"),
        ({"epochs": (3, 1)}, r"rungs.epochs must rise from 1, got \[3, 1\]"),
        ({"keep": 0.0}, "rungs.keep must be above 0 and at most 1, got 0.0"),
        ({"keep": 1.1}, "rungs.keep must be above 0 and at most 1, got 1.1"),
        ({"keep": float("nan")}, "rungs.keep must be .*got nan"),
        ({"n_warmup": 0}, "rungs.n_warmup must be at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Rungs(**given)
