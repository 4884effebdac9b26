"""Expected gains are those of brute force: sampling, numerical integration, exact hypervolume."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from nas_face.search.front_gain.gain import expected_gains, expected_improvement
from nas_face.search.pareto import hypervolume, hypervolume_gains


def case(n_axes, seed, n_points=7, n_designs=5):
    rng = np.random.default_rng(seed)
    points, means = rng.random((n_points, n_axes)), rng.random((n_designs, n_axes))
    return points, means, np.full(n_axes, 1.05), rng


def gain(point, points, reference):
    return hypervolume([*points, point], reference) - hypervolume(points, reference)


@pytest.mark.parametrize("mean, deviation, edge", [(0.0, 1.0, 0.3), (2.0, 0.1, 1.9), (1, 3, -2)])
def test_expected_improvement_is_the_integral(mean, deviation, edge):
    whole = quad(lambda x: (edge - x) * norm.pdf(x, mean, deviation), mean - 12 * deviation, edge)
    found = expected_improvement(np.array([edge]), np.array([mean]), np.array([deviation]))
    assert found[0] == pytest.approx(whole[0], rel=1e-6)


def test_nothing_lies_below_minus_infinity():
    edges = np.array([-np.inf])
    for deviation in (0.0, 1.0):
        assert expected_improvement(edges, np.zeros(1), np.array([deviation])) == 0.0


@pytest.mark.parametrize("n_axes", [1, 2, 3, 4, 5])
def test_known_values_gain_the_exact_hypervolume(n_axes):
    points, means, reference, _ = case(n_axes, seed=n_axes)
    found = expected_gains(means, np.zeros_like(means), points, reference)
    expected = [gain(each, points, reference) for each in means]
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx(hypervolume_gains(means, points, reference), abs=1e-12)


def test_one_predicted_and_one_known_objective_match_the_integral():
    points, means, reference, _ = case(2, seed=10)
    deviations = np.array([[0.2, 0.0]] * len(means))
    found = expected_gains(means, deviations, points, reference)
    grid = np.linspace(-8.0, 8.0, 20_001)
    for (mean, cost), value in zip(means, found, strict=True):
        first = mean + 0.2 * grid
        at = np.column_stack([first, np.full(len(grid), cost)])
        by_grid = np.trapezoid(hypervolume_gains(at, points, reference) * norm.pdf(grid), grid)
        assert value == pytest.approx(by_grid, abs=1e-5)


@pytest.mark.parametrize(
    "deviations", [[0.3, 0.2], [0.2, 0.0, 0.1], [0.1, 0.3, 0.2], [0.2, 0.0, 0.0, 0.1]]
)
def test_several_predicted_objectives_match_sampling(deviations):
    points, means, reference, rng = case(len(deviations), seed=3, n_points=5, n_designs=2)
    found = expected_gains(means, np.array([deviations] * 2), points, reference)
    for mean, value in zip(means, found, strict=True):
        drawn = mean + np.array(deviations) * rng.normal(size=(4000, len(deviations)))
        gains = hypervolume_gains(drawn, points, reference)
        assert value == pytest.approx(gains.mean(), abs=5 * gains.std() / 4000**0.5)


def test_without_points_everything_below_the_reference_is_gained():
    found = expected_gains(np.array([[0.25, 0.5]]), np.zeros((1, 2)), np.empty((0, 2)), np.ones(2))
    assert found == pytest.approx([0.75 * 0.5])


def test_points_beyond_the_reference_do_not_count():
    means, reference = np.array([[0.5, 0.5]]), np.ones(2)
    alone = expected_gains(means, np.full((1, 2), 0.1), np.empty((0, 2)), reference)
    beside = expected_gains(means, np.full((1, 2), 0.1), np.array([[0.0, 2.0]]), reference)
    assert beside == pytest.approx(alone)


def test_chunks_change_nothing(monkeypatch):
    points, means, reference, _ = case(3, seed=4, n_designs=40)
    whole = expected_gains(means, np.full_like(means, 0.1), points, reference)
    monkeypatch.setattr("nas_face.search.front_gain.gain.CHUNK", 50)
    assert expected_gains(means, np.full_like(means, 0.1), points, reference) == pytest.approx(
        whole
    )
