"""Fronts, ranks and volumes against brute force on grids, and against Optuna's own functions."""

import itertools
import math

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_face.search.pareto import (
    crowding_distance,
    hypervolume,
    hypervolume_gains,
    pareto_front,
    pareto_order,
    pareto_ranks,
)

SIDE = 5


def tables(max_points=12, max_axes=4):
    return st.tuples(st.integers(1, max_points), st.integers(1, max_axes)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.integers(0, SIDE).map(float))
    )


points = tables()


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


def counted_volume(values, reference) -> int:
    """Unit cells below an integer reference that an integer point dominates."""
    cells = itertools.product(*(range(edge) for edge in reference))
    return sum(
        any(all(x <= c for x, c in zip(each, cell, strict=True)) for each in values)
        for cell in cells
    )


def included_and_excluded(values, reference) -> float:
    """Volume by inclusion and exclusion of the boxes of all sets of points."""
    total = 0.0
    for size in range(1, len(values) + 1):
        for some in itertools.combinations(values, size):
            worst = np.max(some, axis=0)
            edges = [max(0.0, r - w) for r, w in zip(reference, worst, strict=True)]
            total += (-1) ** (size + 1) * math.prod(edges)
    return total


@given(values=points)
def test_front_is_what_nothing_dominates(values):
    rows = values.tolist()
    expected = [not any(dominates(other, each) for other in rows) for each in rows]
    assert pareto_front(values).tolist() == expected


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


@pytest.mark.parametrize("n_axes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", ["cloud", "front", "ties"])
def test_many_points_agree_with_all_pairs(n_axes, shape):
    """More than one block of the way for many axes."""
    rng = np.random.default_rng(n_axes)
    values = {
        "cloud": rng.random((600, n_axes)),
        "front": rng.dirichlet(np.ones(n_axes), 600),
        "ties": rng.integers(0, 6, (600, n_axes)).astype(float),
    }[shape]
    nowhere_above = (values[None, :, :] <= values[:, None, :]).all(axis=2)
    below = (values[None, :, :] < values[:, None, :]).any(axis=2)
    dominated = (nowhere_above & below).any(axis=1)
    assert pareto_front(values).tolist() == (~dominated).tolist()
    assert (pareto_ranks(values) == 0).tolist() == (~dominated).tolist()


def test_infinite_points_are_ranked():
    values = [[1, math.inf], [2, 3], [2, math.inf], [math.inf, 0], [-math.inf, math.inf]]
    assert pareto_front(values).tolist() == [False, True, False, True, True]
    assert pareto_ranks(values).tolist() == [1, 0, 2, 0, 0]


@settings(deadline=None)
@given(values=tables(max_axes=4), reference=st.lists(st.integers(0, 6), min_size=4, max_size=4))
def test_volume_is_the_number_of_cells(values, reference):
    corner = reference[: values.shape[1]]
    assert hypervolume(values, corner) == counted_volume(values.tolist(), corner)


@settings(deadline=None, max_examples=60)
@given(
    values=st.tuples(st.integers(1, 7), st.integers(1, 5)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(0, 1.2))
    )
)
def test_volume_is_that_of_inclusion_and_exclusion(values):
    corner = [1.0] * values.shape[1]
    expected = included_and_excluded(values.tolist(), corner)
    assert hypervolume(values, corner) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n_axes", [2, 3, 4, 5])
def test_volume_is_optunas(n_axes):
    from optuna._hypervolume import compute_hypervolume

    rng = np.random.default_rng(n_axes)
    corner = np.full(n_axes, 1.0)
    for values in (rng.random((40, n_axes)), rng.dirichlet(np.ones(n_axes), 40)):
        expected = compute_hypervolume(values, corner)
        assert hypervolume(values, corner) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_volume_of_stairs_has_a_closed_form(n_axes):
    """Corners of a staircase: 1 + 2 + ... + n cells, and as high as one likes."""
    n = 50
    stairs = np.array([[at, n - 1 - at, 0] for at in range(n)], dtype=float)[:, :n_axes]
    expected = {1: n, 2: n * (n + 1) // 2, 3: 7 * n * (n + 1) // 2}[n_axes]
    assert hypervolume(stairs, [n, n, 7][:n_axes]) == expected


@settings(deadline=None)
@given(
    values=st.integers(1, 4).flatmap(
        lambda m: arrays(
            np.float64,
            st.tuples(st.integers(0, 8), st.just(m)),
            elements=st.integers(0, SIDE).map(float),
        )
    ),
    seed=st.integers(0, 1000),
)
def test_gain_is_the_difference_of_two_volumes(values, seed):
    n_axes = values.shape[1]
    rng = np.random.default_rng(seed)
    candidates = rng.integers(0, SIDE + 2, (6, n_axes)).astype(float)
    corner = rng.integers(2, SIDE + 1, n_axes).tolist()
    before = counted_volume(values.tolist(), corner)
    expected = [
        counted_volume([*values.tolist(), each], corner) - before for each in candidates.tolist()
    ]
    assert hypervolume_gains(candidates, values, corner).tolist() == expected


def test_gains_of_many_candidates_are_those_of_each():
    """More candidates than are held against the boxes at a time."""
    rng = np.random.default_rng(0)
    front = rng.dirichlet(np.ones(3), 400)
    candidates = rng.random((2000, 3))
    gains = hypervolume_gains(candidates, front, np.ones(3))
    for at in rng.integers(0, 2000, 20):
        both = hypervolume([*front, candidates[at]], np.ones(3))
        assert gains[at] == pytest.approx(both - hypervolume(front, np.ones(3)), abs=1e-9)


@pytest.mark.parametrize("n_axes", [1, 2, 3, 4])
def test_points_beyond_the_reference_add_nothing(n_axes):
    corner = np.ones(n_axes)
    inside = np.full((1, n_axes), 0.5)
    beyond = np.full((1, n_axes), 0.1)
    beyond[0, -1] = 1.0
    assert hypervolume(beyond, corner) == 0
    assert hypervolume([*inside, *beyond, *(inside * np.inf)], corner) == 0.5**n_axes
    assert hypervolume_gains(beyond, inside, corner).tolist() == [0]


@pytest.mark.parametrize("n_axes", [1, 2, 3, 4])
def test_nothing_has_no_volume(n_axes):
    nothing = np.empty((0, n_axes))
    assert pareto_front(nothing).tolist() == []
    assert pareto_ranks(nothing).tolist() == []
    assert pareto_order(nothing).tolist() == []
    assert crowding_distance(nothing).tolist() == []
    assert hypervolume(nothing, np.ones(n_axes)) == 0
    assert hypervolume([], np.ones(n_axes)) == 0
    assert hypervolume_gains(nothing, nothing, np.ones(n_axes)).tolist() == []
    whole = hypervolume_gains(np.full((1, n_axes), 0.5), [], np.ones(n_axes))
    assert whole.tolist() == [0.5**n_axes]


NAN = [[0.0, math.nan]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: pareto_front(NAN),
        lambda: pareto_ranks(NAN),
        lambda: pareto_order(NAN),
        lambda: crowding_distance(NAN),
        lambda: hypervolume(NAN, [1, 1]),
        lambda: hypervolume_gains(NAN, [[0, 0]], [1, 1]),
        lambda: hypervolume_gains([[0, 0]], NAN, [1, 1]),
    ],
)
def test_what_is_not_a_number_is_refused(call):
    with pytest.raises(ValueError, match="must be numbers, got NaN"):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hypervolume([[0, 0]], [1, 1, 1]), "a column for each axis.*3, got 2"),
        (lambda: hypervolume([[0, -math.inf]], [1, 1]), "infinitely good"),
        (lambda: hypervolume([[0, 0]], [1, math.inf]), "reference must be finite"),
        (lambda: hypervolume([[0, 0]], [[1, 1]]), r"reference must be \(M,\)"),
        (lambda: pareto_front([1, 2]), r"points must be \(N, M\)"),
        (lambda: pareto_front(np.empty((3, 0))), r"points must be \(N, M\)"),
    ],
)
def test_what_has_no_volume_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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


@given(values=points)
def test_order_is_by_rank_and_then_by_distance(values):
    order = pareto_order(values)
    assert sorted(order) == list(range(len(values)))
    ranks = brute_ranks(values.tolist())
    keys = []
    for at in order:
        fellows = [other for other in range(len(values)) if ranks[other] == ranks[at]]
        distance = crowding_distance(values[fellows])[fellows.index(at)]
        keys.append((ranks[at], -distance))
    assert keys == sorted(keys)
