"""Children of designs whose choices are conditional, for Optuna's genetic samplers."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

CROSSOVER = 0.9
"""Share of children with two parents, as in Optuna."""


@final
class MixedChildren:
    """Uniform crossover and mutation over every parameter that either parent has.

    The parents are chosen as Optuna does it: each is the better of two, by constraints, then by
    dominance. Of what both have, a child takes either label; what only one has comes from that
    one. One parameter on average is left out, for the sampler to draw anew.

    Differs: Optuna's own strategy recombines only what all trials of the study have in common.

    Args:
        seed: of every draw.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(
        self,
        study: Study,
        search_space: dict[str, BaseDistribution],
        parent_population: list[FrozenTrial],
    ) -> dict[str, Any]:
        """Labels of one child, some left out.

        Args:
            study: whose directions count.
            search_space: what all trials have in common; not used.
            parent_population: finished trials, at least two.
        """
        first = self._better(parent_population, study.directions)
        labels = first.params
        if self._rng.random() < CROSSOVER:
            others = [each for each in parent_population if each.number != first.number]
            second = self._better(others, study.directions)
            labels = {**first.params, **second.params}
            for name in sorted(first.params.keys() & second.params.keys()):
                labels[name] = (first, second)[self._rng.integers(2)].params[name]
        return {
            name: labels[name]
            for name in sorted(labels)
            if self._rng.random() >= 1.0 / len(labels)
        }

    def _better(
        self, population: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
    ) -> FrozenTrial:
        a, b = (population[int(at)] for at in self._rng.integers(len(population), size=2))
        misses = [sum(max(0.0, each) for each in of.constraints.values()) for of in (a, b)]
        if misses[0] != misses[1]:
            return a if misses[0] < misses[1] else b
        signs = [-1.0 if each == StudyDirection.MAXIMIZE else 1.0 for each in directions]
        costs = [np.multiply(signs, each.values) for each in (a, b)]
        a_dominates = bool((costs[0] <= costs[1]).all() and (costs[0] < costs[1]).any())
        return a if a_dominates else b
