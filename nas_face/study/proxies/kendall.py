"""Kendall's tau with intervals: alone, against another, and with a third held fixed."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
N_RESAMPLES = 2000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and its interval.

    Attributes:
        value: the figure; NaN where it is not defined, as for values that are all equal.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How well two predictors rank the same networks.

    Attributes:
        tau: Kendall's tau-b of the predictor with the truth.
        gain: tau of the predictor less tau of the yardstick, on the same networks.
        partial: tau of predictor and truth with the yardstick held fixed.
    """

    tau: Estimate
    gain: Estimate
    partial: Estimate


def compare(
    predictor: NDArray[np.float64],
    truth: NDArray[np.float64],
    yardstick: NDArray[np.float64],
    *,
    seed: int = 0,
) -> Comparison:
    """Tau of a predictor, beside and beyond that of a yardstick.

    Intervals are the 2.5 % and 97.5 % points over 2,000 resamples of the networks; all three
    figures are taken of the same resamples, so that the difference is a paired one.

    Args:
        predictor: `(N,)`, finite.
        truth: `(N,)`, finite.
        yardstick: `(N,)`, finite.
        seed: of the resampling.
    """
    n = len(truth)
    if n == 0:
        nothing = Estimate(value=math.nan, low=math.nan, high=math.nan)
        return Comparison(tau=nothing, gain=nothing, partial=nothing)
    rng = np.random.default_rng(seed)
    resamples = rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    weights = np.concatenate([np.ones((1, n)), resamples]).astype(np.float64)  # (1 + R, N)
    signs = [_signs(values) for values in (predictor, truth, yardstick)]
    own = _tau_b(signs[0], signs[1], weights)
    others = _tau_b(signs[2], signs[1], weights)
    between = _tau_b(signs[0], signs[2], weights)
    return Comparison(
        tau=_estimate(own),
        gain=_estimate(own - others),
        partial=_estimate(partial_tau(own, others, between)),
    )


def tau_b(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Kendall's tau-b: concordant less discordant pairs, over the geometric mean of the pairs that
    x tells apart and those that y does; NaN where one of them tells none apart."""
    return float(_tau_b(_signs(x), _signs(y), np.ones((1, len(x))))[0])


def partial_tau(
    xy: NDArray[np.float64], zy: NDArray[np.float64], xz: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Tau of x and y with z held fixed, from the three plain ones; NaN where x or y is z.

    Each tau becomes the correlation that a Gaussian dependence of that tau has, sin(pi tau / 2);
    the partial correlation of these goes back the same way.

    Source: Greiner's relation; see Kendall, Rank Correlation Methods, 4th edition, chapter 9.
    Differs: Kendall's own partial tau puts the three taus into Pearson's formula as they are. That
    one is above zero for an x that knows nothing of y but what z tells both: .14 where both
    correlate .8 with z.
    """
    rxy, rzy, rxz = (np.sin(np.pi / 2 * tau) for tau in (xy, zy, xz))
    left = (1 - rzy**2) * (1 - rxz**2)
    defined = left > 1e-12
    partial = np.full(np.shape(rxy), np.nan)
    np.divide(rxy - rzy * rxz, np.sqrt(np.where(defined, left, 1.0)), out=partial, where=defined)
    result: NDArray[np.float64] = 2 / np.pi * np.arcsin(np.clip(partial, -1, 1))
    return result


def _signs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(N, N)`: which of each two is the larger."""
    return np.sign(values[:, None] - values[None, :])


def _tau_b(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of each resample `(R, N)`; a network drawn twice is tied with itself."""

    def pairs(which: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = ((weights @ which) * weights).sum(axis=1)
        return found

    untied = pairs(np.abs(x)) * pairs(np.abs(y))
    tau = np.full(len(weights), np.nan)
    np.divide(pairs(x * y), np.sqrt(np.where(untied > 0, untied, 1)), out=tau, where=untied > 0)
    return tau


def _estimate(values: NDArray[np.float64]) -> Estimate:
    """Of the value on all networks and those on resamples, in this order."""
    defined = values[1:][np.isfinite(values[1:])]
    if not math.isfinite(values[0]) or not len(defined):
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value=float(values[0]), low=float(low), high=float(high))
