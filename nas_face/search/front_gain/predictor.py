"""A Gaussian process that predicts one dear objective from a design's choices and costs.

Made for tens to hundreds of noisy values in a space of tens of choices, most of which matter
little. How much each choice matters, how strong trends are and how noisy values are is found by
the marginal likelihood, under a prior that keeps the model sober while there is little to learn
from.

Source: Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, chapters 2, 4 and 5.
"""

from dataclasses import dataclass
from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Floats = NDArray[np.float64]

MAX_GROUPS = 40
"""Groups of columns that have weights of their own; where there are more, those that vary least
over the designs with values share one."""

MAX_FITTED = 100
"""Designs that weights and noise are fitted to; of more, the best ones and others evenly."""

MAX_STEPS = 15
"""Steps of the fit."""

JITTER = 1e-6
REACH = 4.0
"""How far the fit may go from the prior, in units of the logarithm of what is fitted."""

TREND, NOISE = 0.5, 0.02
"""Variances that the prior expects, as shares of that of the values (assumed)."""

WEIGHT_SD, SIGNAL_SD, TREND_SD, NOISE_SD = 1.0, 1.0, 1.5, 1.5
"""Standard deviations of the prior of the logarithms (assumed)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """What is predicted from.

    Attributes:
        columns: `(N, D)`, of similar size.
        groups: `(D,)`: columns of one group share a weight.
        trends: `(N, T)`, standardised; what the values may be linear in.
    """

    columns: Floats
    groups: NDArray[np.intp]
    trends: Floats

    def __len__(self) -> int:
        return len(self.columns)

    def take(self, which: NDArray[np.intp]) -> "Inputs":
        """Some of the rows."""
        return Inputs(columns=self.columns[which], groups=self.groups, trends=self.trends[which])

    def joined(self, other: "Inputs") -> "Inputs":
        """These rows and then those of another."""
        return Inputs(
            columns=np.concatenate([self.columns, other.columns]),
            groups=self.groups,
            trends=np.concatenate([self.trends, other.trends]),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """Bends values so that bad ones, which spread widely, do not drown the good ones.

    Linear up to the best value and logarithmic above it, then standardised.

    Attributes:
        best: the best value.
        scale: what counts as a large step above the best: the distance from it to the median.
        mean: of the bent values.
        deviation: standard deviation of the bent values.
    """

    best: float
    scale: float
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """The bend that suits these values, finite and to be small."""
        numbers = np.asarray(values, dtype=np.float64)
        best = float(numbers.min())
        scale = float(np.median(numbers)) - best or float(numbers.mean()) - best or 1.0
        bent = cls(best=best, scale=scale)(numbers)
        deviation = float(bent.std()) or 1.0
        return cls(best=best, scale=scale, mean=float(bent.mean()), deviation=deviation)

    def __call__(self, values: ArrayLike) -> Floats:
        """Values as the model sees them."""
        units = (np.asarray(values, dtype=np.float64) - self.best) / self.scale
        bent = np.where(units > 0.0, np.log1p(np.maximum(units, 0.0)), units)
        return np.asarray((bent - self.mean) / self.deviation)


@final
class Predictor:
    """Predictions from designs with values.

    The covariance is Matern 5/2 over the weighted distance of the choices, plus a linear trend,
    plus noise. One value apart, so that designs alike in all choices agree but for noise.

    Args:
        inputs: of the designs.
        values: `(N,)`, standardised, to be small.
        extra_noise: `(N,)`, variance beyond that of the best kind of value.
        tuned: what another predictor found by fitting; it is found anew if there is none.
    """

    def __init__(
        self, inputs: Inputs, values: Floats, extra_noise: Floats, *, tuned: "Tuned | None" = None
    ) -> None:
        self.tuned = tuned or fit(inputs, values, extra_noise)
        self._inputs = inputs
        covariance = self.tuned.covariance(inputs, inputs)
        covariance[np.diag_indices(len(inputs))] += self.tuned.noise + extra_noise + JITTER
        self._root = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        self._pull = cho_solve((self._root, True), values, check_finite=False)

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Mean and standard deviation, noise excluded, each `(K,)`."""
        covariance = self.tuned.covariance(self._inputs, inputs)
        mean = covariance.T @ self._pull
        solved = solve_triangular(
            self._root, covariance, lower=True, overwrite_b=True, check_finite=False
        )
        trends = self.tuned.trend * np.einsum("kt,kt->k", inputs.trends, inputs.trends)
        variance = self.tuned.signal + trends - np.einsum("nk,nk->k", solved, solved)
        return mean, np.sqrt(np.maximum(variance, JITTER))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuned:
    """What a fit finds.

    Attributes:
        weights: `(D,)`, of the squared differences of each column.
        signal: variance of what the choices explain.
        trend: variance of a slope.
        noise: variance of a value around the truth.
    """

    weights: Floats
    signal: float
    trend: float
    noise: float

    def covariance(self, a: Inputs, b: Inputs) -> Floats:
        """`(A, B)`, of the true values."""
        scale = np.sqrt(self.weights)
        covariance = matern(squared_distances(a.columns * scale, b.columns * scale))
        covariance *= self.signal
        covariance += self.trend * (a.trends @ b.trends.T)
        return covariance


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Of all pairs of rows, `(A, B)`."""
    squares = np.einsum("ad,ad->a", a, a)[:, None] + np.einsum("bd,bd->b", b, b)
    squares -= 2.0 * (a @ b.T)
    np.maximum(squares, 0.0, out=squares)
    return np.asarray(squares)


def matern(squares: Floats) -> Floats:
    """Matern 5/2 covariance of squared distances."""
    root = np.sqrt(5.0 * squares)
    polynomial = root / 3.0
    polynomial += 1.0
    polynomial *= root
    polynomial += 1.0
    polynomial *= np.exp(np.negative(root, out=root), out=root)
    return np.asarray(polynomial)


def fit(inputs: Inputs, values: Floats, extra_noise: Floats) -> Tuned:
    """The most likely weights and variances under the prior.

    Args:
        inputs: of the designs.
        values: `(N,)`, standardised, to be small.
        extra_noise: `(N,)`.
    """
    which = _telling(values)
    inputs, values, extra_noise = inputs.take(which), values[which], extra_noise[which]
    groups, distances = _grouped(inputs)
    slopes = inputs.trends @ inputs.trends.T
    # One unit away in all is where two designs of the study stand on average.
    typical = max(float(distances.sum(axis=0).mean()), JITTER)
    expected = np.log([*[1.0 / typical] * len(distances), 1.0, TREND, NOISE])
    spread = np.array([*[WEIGHT_SD] * len(distances), SIGNAL_SD, TREND_SD, NOISE_SD])

    def loss(logs: Floats) -> tuple[float, Floats]:
        off = (logs - expected) / spread
        lost, slope = negative_log_likelihood(logs, distances, slopes, values, extra_noise)
        return lost + 0.5 * float(off @ off), slope + off / spread

    bounds = [(centre - REACH, centre + REACH) for centre in expected]
    found = minimize(
        loss, expected, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS}
    )
    *weights, signal, trend, noise = np.exp(found.x)
    return Tuned(weights=np.array(weights)[groups], signal=signal, trend=trend, noise=noise)


def negative_log_likelihood(
    logs: Floats, distances: Floats, slopes: Floats, values: Floats, extra_noise: Floats
) -> tuple[float, Floats]:
    """Of the values, without its constant, and its gradient (Rasmussen & Williams, eq. 5.9).

    Args:
        logs: `(G + 3,)`, logarithms of the weights of the groups, signal, trend and noise.
        distances: `(G, N, N)`, squared, of each group.
        slopes: `(N, N)`, products of the trends.
        values: `(N,)`.
        extra_noise: `(N,)`.
    """
    *weights, signal, trend, noise = np.exp(logs)
    root = np.sqrt(5.0 * np.tensordot(np.array(weights), distances, axes=1))
    decay = np.exp(-root)
    plain = (1.0 + root + root * root / 3.0) * decay
    covariance = signal * plain + trend * slopes
    covariance[np.diag_indices(len(values))] += noise + extra_noise + JITTER
    lower = cholesky(covariance, lower=True, check_finite=False)
    inverse = cho_solve((lower, True), np.eye(len(values)), check_finite=False)
    pull = inverse @ values
    lost = 0.5 * float(values @ pull) + float(np.log(np.diag(lower)).sum())
    outer = 0.5 * (inverse - np.outer(pull, pull))
    by_square = outer * (signal * (-5.0 / 6.0)) * (1.0 + root) * decay
    slope = [
        *(np.array(weights) * np.tensordot(distances, by_square, axes=2)),
        signal * float((outer * plain).sum()),
        trend * float((outer * slopes).sum()),
        noise * float(np.trace(outer)),
    ]
    return lost, np.array(slope)


def _telling(values: Floats) -> NDArray[np.intp]:
    """Rows to fit to: if there are too many, half of them the best and the others evenly."""
    order = np.argsort(values, kind="stable")
    if len(order) <= MAX_FITTED:
        return np.arange(len(order))
    n_best = MAX_FITTED // 2
    others = np.linspace(n_best, len(order) - 1, MAX_FITTED - n_best).astype(np.intp)
    return np.sort(order[[*range(n_best), *others]])


def _grouped(inputs: Inputs) -> tuple[NDArray[np.intp], Floats]:
    """Which weight each column has, and squared distances `(G, N, N)` of those of each weight."""
    variance = np.bincount(inputs.groups, weights=inputs.columns.var(axis=0))
    ranks = np.empty(len(variance), dtype=np.intp)
    ranks[np.argsort(-variance, kind="stable")] = np.arange(len(variance))
    groups = np.minimum(ranks, MAX_GROUPS - 1)[inputs.groups]
    distances = [
        squared_distances(columns, columns)
        for group in range(min(len(variance), MAX_GROUPS))
        for columns in [inputs.columns[:, groups == group]]
    ]
    return groups, np.array(distances)
