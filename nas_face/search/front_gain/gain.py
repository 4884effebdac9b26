"""Expected hypervolume gain: what the front would grow by, before a design is trained.

What is not dominated yet is cut into boxes. The gain of a design in one box is a product of one
length for each axis; where objectives are independent, so is its expectation: the plain length
where the objective is known exactly, and a difference of two expected improvements where it is
predicted.

Source: Yang, Emmerich, Deutz & Baeck, Efficient computation of expected hypervolume improvement
using box decomposition algorithms, 2019.
Differs: objectives that are exact before training enter as they are.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas_face.search.pareto import free_boxes

Floats = NDArray[np.float64]

CHUNK = 1 << 21
"""Products of designs and boxes that are held at once."""


def expected_gains(means: Floats, deviations: Floats, points: Floats, reference: Floats) -> Floats:
    """Expected hypervolume gain of each design alone.

    Args:
        means: `(K, M)`, every column to be small.
        deviations: `(K, M)`, standard deviations of independent normal predictions; 0 where the
            value is known. A column is known for all designs or for none.
        points: `(N, M)`, what has been reached.
        reference: `(M,)`, finite; nothing beyond it counts.

    Returns:
        `(K,)`, each at least 0.
    """
    low, high = _boxes(points[(points < reference).all(axis=1)], reference)
    gains = np.zeros(len(means))
    step = max(1, CHUNK // len(low))
    for start in range(0, len(means), step):
        rows = slice(start, start + step)
        share = np.ones((len(means[rows]), len(low)))
        for axis in range(len(reference)):
            mean, deviation = means[rows, axis], deviations[rows, axis]
            edges, which = np.unique(
                np.concatenate([low[:, axis], high[:, axis]]), return_inverse=True
            )
            below = expected_improvement(edges, mean[:, None], deviation[:, None])
            share *= below[:, which[len(low) :]] - below[:, which[: len(low)]]
        gains[rows] = share.sum(axis=1)
    return np.maximum(gains, 0.0)


def expected_improvement(edges: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Expectation of `max(0, edge - value)` for a normal value; arguments broadcast.

    Minus infinity is a fair edge: nothing lies below it. A deviation of 0 means that the value is
    known.
    """
    away = edges - mean
    if not deviation.any():
        return np.maximum(away, 0.0)
    units = away / deviation
    density = np.exp(-0.5 * units * units) / np.sqrt(2.0 * np.pi)
    improvement = np.where(np.isneginf(away), 0.0, away) * ndtr(units) + deviation * density
    return np.asarray(improvement)


def _boxes(inside: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Corners of the boxes that no point dominates; beyond three axes, those of every slice."""
    if len(reference) <= 3:
        return free_boxes(inside, reference)
    levels = [-np.inf, *np.unique(inside[:, -1]), reference[-1]]
    lows, highs = [], []
    for start, end in zip(levels[:-1], levels[1:], strict=True):
        low, high = _boxes(inside[inside[:, -1] <= start, :-1], reference[:-1])
        lows.append(np.column_stack([low, np.full(len(low), start)]))
        highs.append(np.column_stack([high, np.full(len(high), end)]))
    return np.concatenate(lows), np.concatenate(highs)
