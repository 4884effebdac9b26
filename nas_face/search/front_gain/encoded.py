"""Candidates as the model sees them."""

import functools
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.search.designs import Candidate, Designs
from nas_face.search.front_gain.predictor import Floats, Inputs
from nas_face.search.front_gain.startup import pool_of

MIN_COUNT_SD = 0.5
"""Least standard deviation by which a count is divided: what hardly any design has is no unit."""

MIN_SD = 1e-9

SMALLEST = 1e-3
"""What is known counts as no less than this share of the least of the pool, for the logarithm."""


@final
class Encoder:
    """Choices, counts of choices that are offered alike, and the logarithms of what is known.

    How often a block occurs says more about a network than where, and can be learnt from far fewer
    values. Counts and costs are standardised over a pool of candidates.

    Args:
        designs: what is encoded.
        pool: candidates that stand for all.
    """

    def __init__(self, designs: Designs, pool: Sequence[Candidate]) -> None:
        knobs, kinds = designs.knobs, designs.kinds
        widths = np.bincount(knobs)
        # Two labels of a choice differ in two columns.
        self._scale = np.where(widths[knobs] > 1, np.sqrt(0.5), 1.0)
        shared = [kind for kind, n in enumerate(np.bincount(kinds)) if n > 1]
        self._counting = (kinds[:, None] == np.array(shared, dtype=np.intp)).astype(np.float64)
        self._groups = np.concatenate([knobs, knobs.max() + 1 + np.arange(len(shared))])
        self._names = sorted(pool[0].known)
        vectors = np.stack([each.vector for each in pool]).astype(np.float64)
        counts = (vectors * self._scale) @ self._counting
        self._count_mean = counts.mean(axis=0)
        self._count_scale = np.sqrt(0.5) / np.maximum(counts.std(axis=0), MIN_COUNT_SD)
        self._least = np.array([min(each.known[name] for each in pool) for name in self._names])
        self._floor = np.where(self._least > 0.0, self._least * SMALLEST, 1.0)
        known = self._known(pool)
        self._known_mean, self._known_sd = known.mean(axis=0), known.std(axis=0)

    def inputs(self, candidates: Sequence[Candidate]) -> Inputs:
        """Candidates for the model."""
        columns = np.stack([each.vector for each in candidates]) * self._scale
        counts = (columns @ self._counting - self._count_mean) * self._count_scale
        trends = (self._known(candidates) - self._known_mean) / np.maximum(self._known_sd, MIN_SD)
        trends = trends[:, self._known_sd > MIN_SD] / np.sqrt(max(1, len(self._names)))
        return Inputs(columns=np.hstack([columns, counts]), groups=self._groups, trends=trends)

    def _known(self, candidates: Sequence[Candidate]) -> Floats:
        known = np.array([[each.known[name] for name in self._names] for each in candidates])
        known = known.reshape(len(candidates), len(self._names))
        return np.where(self._least > 0.0, np.log(np.maximum(known, self._floor)), known)


@functools.lru_cache(maxsize=8)
def encoder_of(designs: Designs, names: tuple[str, ...]) -> Encoder:
    """The encoder of some designs, made once in a process."""
    return Encoder(designs, pool_of(designs, names))


def stacked(inputs: Inputs, more: NDArray[np.float64]) -> Inputs:
    """Inputs with further trends `(N, F)`."""
    return Inputs(
        columns=inputs.columns,
        groups=inputs.groups,
        trends=np.hstack([inputs.trends, more]),
    )
