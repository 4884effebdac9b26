"""Optuna's samplers on plain parameters: what they propose is made to fit, and new."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_face.search.designs import Candidate, Designs, SpaceExhausted
from nas_face.search.front_gain.history import History
from nas_face.search.front_gain.startup import MAX_EVERYTHING

N_PROPOSALS = 16
N_REPAIRS = 100
N_DRAWS = 200


@final
class FittingSampler(BaseSampler):
    """Proposes designs of plain parameters that fit and were not proposed before in the study.

    What the inner sampler proposes against the walls, or for a second time, is changed in single
    parameters until it is neither; `BudgetedSampler` does the same in a search space.

    Args:
        designs: what can be proposed; no parameter depends on another.
        inner: any of Optuna's samplers, multi-objective where the study is.
        seed: of the changes.
        start: labels of designs that come before all others; those outside the walls are passed
            over.
    """

    def __init__(
        self,
        designs: Designs,
        inner: BaseSampler,
        seed: int,
        *,
        start: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._designs = designs
        self._inner = inner
        self._start = tuple(start)
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters of the designs."""
        return self._designs.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Labels of one new design within the walls.

        Raises:
            SpaceExhausted: none was found.
        """
        seen = History.of(study, self._designs, trial.number, {}).seen
        for candidate in self._candidates(study, trial):
            if (
                self._designs.fits(candidate)
                and candidate.key not in seen
                and self._designs.identity(candidate) not in seen
            ):
                return dict(candidate.params)
        raise SpaceExhausted(
            f"no design is left that fits the budget and was not tried ({len(seen)} were); widen "
            "the space or the budget"
        )

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Parameters outside the designs, which a user's own objective may add."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Passed on."""
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Any
    ) -> None:
        """Passed on."""
        self._inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Passed on; called by Optuna for parallel threads."""
        self._inner.reseed_rng()
        self._rng = np.random.default_rng()

    def _candidates(self, study: Study, trial: FrozenTrial) -> Iterator[Candidate]:
        """In the order of preference: those to begin with; proposals, each with its neighbours;
        draws; everything."""
        if isinstance(self._inner, BaseGASampler):
            # It counts its generations in the trials; ours are to be parents as well.
            self._inner.get_trial_generation(study, trial)
        for labels in self._start:
            first = self._designs.of(labels)
            if first is not None:
                yield first
        for _ in range(N_PROPOSALS):
            here = self._designs.of(self._ask_inner(study, trial))
            if here is None:
                continue
            yield here
            for _ in range(N_REPAIRS):
                other = self._designs.mutate(here, self._rng)
                if other is not None:
                    yield other
                    here = other
        draws = self._designs.draws(int(self._rng.integers(2**31)))
        yield from itertools.islice(draws, N_DRAWS)
        yield from self._designs.everything(MAX_EVERYTHING) or ()

    def _ask_inner(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        space = self._inner.infer_relative_search_space(study, trial)
        relative = self._inner.sample_relative(study, trial, space)
        return {
            name: relative[name]
            if name in relative
            else self._inner.sample_independent(study, trial, name, distribution)
            for name, distribution in self._designs.distributions.items()
        }
