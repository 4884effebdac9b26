"""For samplers that need every parameter in every trial: inactive choices filled in."""

from collections.abc import Mapping
from typing import Any, final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_face.space import SearchSpace

STATES = (TrialState.COMPLETE, TrialState.RUNNING)


@final
class RectangularSampler(BaseSampler):
    """Lets a sampler work on a copy of the study in which no choice is conditional.

    A design's inactive choices stand at their first option there, so that designs that differ in
    nothing that matters look equal. What is proposed for choices that turn out inactive is for the
    caller to leave out.

    Args:
        space: the space.
        inner: a sampler that keeps nothing in the storage that it reads again later.
    """

    def __init__(self, space: SearchSpace, inner: BaseSampler) -> None:
        self._inner = inner
        self._distributions: dict[str, BaseDistribution] = {
            path: CategoricalDistribution(choice.labels)
            for path, choice in space.choices().items()
        }
        self._fill = {path: choice.labels[0] for path, choice in space.choices().items()}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All choices of the space."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A label for every choice of the space, active or not."""
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(max(level, optuna.logging.WARNING))
        try:
            copy = optuna.create_study(directions=study.directions, sampler=self._inner)
        finally:
            optuna.logging.set_verbosity(level)
        for past in study.get_trials(deepcopy=False, states=STATES):
            if past.number != trial.number and past.params.keys() & self._fill.keys():
                copy.add_trial(self._filled(past))
        return dict(copy.ask(self._distributions).params)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Parameters outside the space: passed on."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Passed on."""
        self._inner.reseed_rng()

    def _filled(self, past: FrozenTrial) -> FrozenTrial:
        known: Mapping[str, Any] = {
            path: label for path, label in past.params.items() if path in self._fill
        }
        return create_trial(
            state=past.state,
            values=past.values,
            params={**self._fill, **known},
            distributions=self._distributions,
        )
