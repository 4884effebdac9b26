"""The Gaussian process is the textbook's, and its fit finds what is there."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from nas_face.search.front_gain import predictor
from nas_face.search.front_gain.predictor import (
    JITTER,
    Inputs,
    Predictor,
    Tuned,
    Warp,
    fit,
    negative_log_likelihood,
)

TUNED = Tuned(weights=np.array([0.5, 0.5, 2.0]), signal=1.3, trend=0.4, noise=0.1)


def inputs(n, seed, groups=(0, 0, 1), n_trends=1):
    rng = np.random.default_rng(seed)
    return Inputs(
        columns=rng.random((n, len(groups))),
        groups=np.array(groups),
        trends=rng.normal(size=(n, n_trends)),
    )


def covariance(a, b):
    """Pair by pair, from the definition."""
    found = np.empty((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            square = float((TUNED.weights * (a.columns[i] - b.columns[j]) ** 2).sum())
            root = (5.0 * square) ** 0.5
            found[i, j] = TUNED.signal * (1 + root + 5.0 * square / 3) * np.exp(-root)
            found[i, j] += TUNED.trend * float(a.trends[i] @ b.trends[j])
    return found


def test_predictions_are_those_of_the_formula():
    learnt, asked = inputs(9, 0), inputs(5, 1)
    rng = np.random.default_rng(2)
    values, extra = rng.normal(size=9), rng.random(9)
    mean, deviation = Predictor(learnt, values, extra, tuned=TUNED).predict(asked)
    noisy = covariance(learnt, learnt) + np.diag(TUNED.noise + extra + JITTER)
    across = covariance(asked, learnt)
    assert mean == pytest.approx(across @ np.linalg.solve(noisy, values), abs=1e-9)
    variance = np.diag(covariance(asked, asked) - across @ np.linalg.solve(noisy, across.T))
    assert deviation == pytest.approx(variance**0.5, abs=1e-9)


def test_likelihood_is_that_of_the_normal_density_and_its_gradient_is_right():
    learnt = inputs(8, 3)
    values, extra = np.random.default_rng(4).normal(size=8), np.linspace(0.0, 0.2, 8)
    distances = np.array(
        [
            [[np.sum((a[of] - b[of]) ** 2) for b in learnt.columns] for a in learnt.columns]
            for of in ([0, 1], [2])
        ]
    )
    slopes = learnt.trends @ learnt.trends.T
    logs = np.log([0.5, 2.0, 1.3, 0.4, 0.1])
    lost, slope = negative_log_likelihood(logs, distances, slopes, values, extra)
    noisy = covariance(learnt, learnt) + np.diag(TUNED.noise + extra + JITTER)
    _, log_determinant = np.linalg.slogdet(noisy)
    assert lost == pytest.approx(0.5 * (values @ np.linalg.solve(noisy, values) + log_determinant))
    by_steps = approx_fprime(
        logs, lambda at: negative_log_likelihood(at, distances, slopes, values, extra)[0], 1e-6
    )
    assert slope == pytest.approx(by_steps, abs=1e-4)


def test_the_fit_finds_which_choices_matter_and_how_noisy_values_are():
    rng = np.random.default_rng(0)
    columns = rng.integers(2, size=(90, 4)).astype(float)
    truth = 2.0 * columns[:, 0] - columns[:, 0] * columns[:, 1]
    values = truth + 0.3 * rng.normal(size=90)
    scale = values.std()
    given = Inputs(columns=columns, groups=np.arange(4), trends=np.zeros((90, 0)))
    tuned = fit(given, (values - values.mean()) / scale, np.zeros(90))
    assert tuned.weights[:2].min() > 2 * tuned.weights[2:].max()
    assert tuned.noise == pytest.approx((0.3 / scale) ** 2, rel=0.5)


def test_noise_apart_counts_less():
    given = inputs(2, 5)
    values = np.array([1.0, -1.0])
    trusted, _ = Predictor(given, values, np.array([0.0, 9.0]), tuned=TUNED).predict(given)
    assert abs(trusted[0] - 1.0) < abs(trusted[1] + 1.0)


def test_more_groups_than_weights_share_one(monkeypatch):
    monkeypatch.setattr(predictor, "MAX_GROUPS", 2)
    given = inputs(12, 6, groups=(0, 1, 2))
    given.columns[:, 1:] *= 0.01
    tuned = fit(given, np.random.default_rng(1).normal(size=12), np.zeros(12))
    assert tuned.weights[1] == tuned.weights[2]
    assert tuned.weights[0] != tuned.weights[1]


def test_many_values_are_fitted_to_the_best_and_to_some_others(monkeypatch):
    sizes = []
    whole = predictor.negative_log_likelihood

    def counted(logs, distances, slopes, values, extra):
        sizes.append(sorted(values))
        return whole(logs, distances, slopes, values, extra)

    monkeypatch.setattr(predictor, "negative_log_likelihood", counted)
    monkeypatch.setattr(predictor, "MAX_FITTED", 10)
    values = np.random.default_rng(2).permutation(np.linspace(-1.0, 1.0, 30))
    fit(inputs(30, 7), values, np.zeros(30))
    assert {len(each) for each in sizes} == {10}
    assert sizes[0][:5] == pytest.approx(sorted(values)[:5])
    assert sizes[0][-1] == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 5.0]])
def test_a_warp_of_hardly_different_values_is_finite(values):
    assert np.isfinite(Warp.of(values)(values)).all()


def test_a_warp_keeps_the_order_and_shortens_the_bad_end():
    values = np.array([1.0, 1.5, 2.0, 3.0, 1e6])
    bent = Warp.of(values)(values)
    assert (np.diff(bent) > 0).all()
    assert bent.mean() == pytest.approx(0.0, abs=1e-12)
    assert bent.std() == pytest.approx(1.0)
    assert (bent[-1] - bent[-2]) / (bent[1] - bent[0]) < 100
    below = Warp.of(values)([0.0, 0.5, 1.0])
    assert below[1] - below[0] == pytest.approx(below[2] - below[1])


def test_designs_far_from_all_others_are_as_uncertain_as_the_prior():
    given = inputs(6, 8, n_trends=0)
    far = Inputs(columns=given.columns + 100.0, groups=given.groups, trends=given.trends)
    mean, deviation = Predictor(given, np.ones(6), np.zeros(6), tuned=TUNED).predict(far)
    assert mean == pytest.approx(0.0, abs=1e-9)
    assert deviation == pytest.approx(TUNED.signal**0.5)
