"""How likely a candidate is within walls on what is measured before training.

A design that breaks such a wall costs a measurement, though no training. The measurements of all
trials, those that were refused among them, tell which designs to ask for.

Source: Gardner, Kusner, Xu, Weinberger & Cunningham, Bayesian optimization with inequality
constraints, ICML 2014: the gain counts as far as the walls are likely kept.
"""

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from scipy.special import log_ndtr

from nas_face.search.designs import Candidate
from nas_face.search.front_gain.encoded import Encoder
from nas_face.search.front_gain.history import History
from nas_face.search.front_gain.predictor import Floats, Predictor

Walls = Mapping[str, tuple[float | None, float | None]]
"""Lower and upper limit, inclusive, of what is measured, by the name that it is filed under."""

MIN_TIMED = 4
"""Measurements that it takes to model a quantity."""


@final
class WallModel:
    """Models of the logarithms of the walled quantities, as independent of each other.

    A quantity that too few trials have measured is not modelled: every candidate is as likely.

    Args:
        walls: the limits.
        history: with what was measured.
        encoder: of candidates.
    """

    def __init__(self, walls: Walls, history: History, encoder: Encoder) -> None:
        self._encoder = encoder
        self._models: list[tuple[Predictor, float, float]] = []
        for name, (low, high) in walls.items():
            timed = [past for past in history.timed if past.timed.get(name, 0.0) > 0.0]
            if len(timed) < MIN_TIMED:
                continue
            logs = np.log([past.timed[name] for past in timed])
            mean, deviation = float(logs.mean()), float(logs.std()) or 1.0
            inputs = encoder.inputs([past.candidate for past in timed])
            predictor = Predictor(inputs, (logs - mean) / deviation, np.zeros(len(logs)))
            lowest = -np.inf if low is None or low <= 0.0 else (np.log(low) - mean) / deviation
            highest = np.inf if high is None else (np.log(high) - mean) / deviation
            self._models.append((predictor, lowest, highest))

    @property
    def knows(self) -> bool:
        """Whether anything is modelled."""
        return bool(self._models)

    def log_chances(self, candidates: Sequence[Candidate]) -> Floats:
        """`(K,)`: logarithm of the probability that all walls are kept by what will be measured,
        the noise of a measurement included."""
        chances = np.zeros(len(candidates))
        if not self._models or not candidates:
            return chances
        inputs = self._encoder.inputs(candidates)
        for predictor, low, high in self._models:
            mean, deviation = predictor.predict(inputs)
            deviation = np.sqrt(deviation**2 + predictor.tuned.noise)
            chances += log_between((low - mean) / deviation, (high - mean) / deviation)
        return chances


def log_between(low: Floats, high: Floats) -> Floats:
    """Logarithm of the probability that a standard normal value lies between; exact far out.

    Args:
        low: where it begins, minus infinity included.
        high: where it ends, at least `low`, infinity included.
    """
    # In the upper tail both probabilities would be 1: there, mirrored, they are small.
    mirrored = low > 0.0
    below = log_ndtr(np.where(mirrored, -high, low))
    above = log_ndtr(np.where(mirrored, -low, high))
    with np.errstate(divide="ignore"):
        return np.asarray(above + np.log(-np.expm1(np.minimum(below - above, 0.0))))
