"""Kendall's tau against a count of pairs and SciPy, and what its intervals cover."""

import numpy as np
import pytest
from proxy_cases import naive_tau_b
from scipy.stats import kendalltau

from nas_face.study.proxies.kendall import compare, partial_tau, tau_b


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_values", [3, 1000])
def test_tau_is_that_of_a_count_of_pairs(seed, n_values):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, n_values, (2, 6 + 5 * seed)).astype(float)
    assert tau_b(x, y) == pytest.approx(naive_tau_b(x, y), rel=1e-12)
    assert tau_b(x, y) == pytest.approx(kendalltau(x, y).statistic, rel=1e-12)


def test_tau_of_one_that_tells_nothing_apart_is_not_defined():
    assert np.isnan(tau_b(np.ones(5), np.arange(5.0)))


def gaussian(n, seed, *correlations):
    """x, y and z, each pair of them with this correlation: xy, xz, yz."""
    xy, xz, yz = correlations
    covariance = [[1, xy, xz], [xy, 1, yz], [xz, yz, 1]]
    return np.random.default_rng(seed).multivariate_normal(np.zeros(3), covariance, n).T


def test_what_only_the_third_tells_is_partialled_out():
    x, y, z = gaussian(3000, 0, 0.64, 0.8, 0.8)
    taus = [np.array(tau_b(*pair)) for pair in ((x, y), (z, y), (x, z))]
    assert abs(float(partial_tau(*taus))) < 0.03
    kendalls_own = (taus[0] - taus[1] * taus[2]) / np.sqrt((1 - taus[1] ** 2) * (1 - taus[2] ** 2))
    assert float(kendalls_own) == pytest.approx(0.144, abs=0.03)


def test_what_the_third_does_not_tell_is_left():
    x, y, z = gaussian(3000, 0, 0.6, 0, 0)
    taus = [np.array(tau_b(*pair)) for pair in ((x, y), (z, y), (x, z))]
    assert float(partial_tau(*taus)) == pytest.approx(2 / np.pi * np.arcsin(0.6), abs=0.03)


def test_partial_tau_beyond_oneself_is_not_defined():
    assert np.isnan(partial_tau(np.array(0.3), np.array(0.3), np.array(1.0)))


def test_values_are_those_of_all_networks_and_lie_in_their_intervals():
    x, y, z = gaussian(60, 3, 0.5, 0.3, 0.4)
    found = compare(x, y, z)
    assert found.tau.value == pytest.approx(naive_tau_b(x, y))
    assert found.gain.value == pytest.approx(naive_tau_b(x, y) - naive_tau_b(z, y))
    for each in (found.tau, found.gain, found.partial):
        assert -2 <= each.low < each.value < each.high <= 2


def test_compared_with_oneself_nothing_is_gained():
    x, y, _ = gaussian(30, 4, 0.5, 0, 0)
    found = compare(x, y, x)
    assert (found.gain.value, found.gain.low, found.gain.high) == (0, 0, 0)
    assert np.isnan(found.partial.value)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth = 2 / np.pi * np.arcsin(0.5)
    found = [
        compare(x, y, z) for x, y, z in (gaussian(40, seed, 0.5, 0, 0) for seed in range(100))
    ]
    assert 88 <= sum(each.tau.low <= truth <= each.tau.high for each in found) <= 100
    assert 88 <= sum(each.gain.low <= truth <= each.gain.high for each in found) <= 100
    assert 88 <= sum(each.partial.low <= truth <= each.partial.high for each in found) <= 100
    median = float(np.median([each.tau.high - each.tau.low for each in found]))
    assert median < 0.5


def test_intervals_are_repeatable():
    x, y, z = gaussian(20, 5, 0.5, 0.3, 0.4)
    assert compare(x, y, z) == compare(x, y, z)
