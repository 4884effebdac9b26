"""A sampler that proposes only new designs within the budget, on top of any of Optuna's."""

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_face.errors import ArchError
from nas_face.search.budget import Budget
from nas_face.search.designs import SpaceDesigns, SpaceExhausted
from nas_face.search.designs.seeding import first_unseen
from nas_face.search.front_gain.startup import MAX_EVERYTHING, first_designs, pool_of
from nas_face.search.record import ARCH_ID
from nas_face.space import Choice, Design, Label, Screened, Screener, SearchSpace, screener_of

N_STARTUP = 12
N_PROPOSALS = 16
N_REPAIRS = 400

SPREAD_OVER = ("madds",)
N_SPREAD = 100
"""What the first designs are spread over, and the draws that they are chosen from."""


class BudgetedSampler(BaseSampler):
    """Proposes designs of a space that fit a budget and were not proposed before in the study.

    The first designs are spread evenly over the logarithm of multiply-adds, as those of our own
    sampler are: drawn evenly over the choices, most would crowd below the wall. After that the
    inner sampler proposes. What it proposes against the rules of the space is changed in as few
    choices as make it legal; a design outside the budget is walked inside by single changes that
    bring it closer, and one that the study has seen is changed until it is new. All that costs a
    few milliseconds, against the seconds to hours of a training. Trials must carry their
    architecture's identity in the user attribute `arch_id`.

    Args:
        space: the space.
        budget: the walls; latency, which has to be measured, is not looked at.
        inner: any of Optuna's samplers, multi-objective where the study is.
        seed: of the repairs and of the first designs.
        n_startup: how many designs are spread before the inner sampler is asked.
        start: labels of designs that come before all others; those outside the budget are passed
            over.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget,
        inner: BaseSampler,
        seed: int,
        *,
        n_startup: int = N_STARTUP,
        start: Sequence[Mapping[str, Label]] = (),
    ) -> None:
        self._space = space
        self._budget = budget
        self._inner = inner
        self._n_startup = n_startup
        self._start = tuple(start)
        self._rng = np.random.default_rng(seed)
        self._designs = SpaceDesigns(space, budget)
        self._screener = screener_of(space)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All choices of the space, the conditional ones included."""
        return self._designs.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Labels of one new design within the budget.

        Raises:
            SpaceExhausted: none was found.
        """
        seen = {
            past.user_attrs[ARCH_ID]
            for past in study.get_trials(deepcopy=False)
            if ARCH_ID in past.user_attrs and past.number != trial.number
        }
        design = first_unseen(self._start, self._fitting, seen)
        if design is None and len(seen) < self._n_startup:
            design = self._spread(study, trial.number, seen)
        if design is not None and isinstance(self._inner, BaseGASampler):
            # It counts its generations in the trials; ours are to be parents as well.
            self._inner.get_trial_generation(study, trial)
        if design is None:
            design = self._proposed(study, trial, seen)
        if design is None:
            raise SpaceExhausted(
                f"{self._space.name}: no design is left that fits {self._budget} and was not "
                f"tried ({len(seen)} were); widen the space or the budget"
            )
        return dict(design.choices)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Parameters outside the space, which a user's own objective may add."""
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

    def _fitting(self, labels: Mapping[str, Label]) -> Design | None:
        """The design of some labels, if it is one and fits."""
        try:
            design = self._space.design(labels)
        except (ArchError, KeyError):
            return None
        return design if self._budget.fits(design.spec.cost()) else None

    def _spread(self, study: Study, current: int, seen: set[str]) -> Design | None:
        """A new design near this turn's multiply-adds, or none if nothing that was drawn fits."""
        tried = [
            candidate
            for past in study.get_trials(deepcopy=False)
            if past.number != current and ARCH_ID in past.user_attrs
            if (candidate := self._designs.of(past.params)) is not None
        ]
        pool = pool_of(self._designs, SPREAD_OVER, N_SPREAD)
        for candidate in first_designs(pool, SPREAD_OVER, tried, self._rng):
            if self._designs.identity(candidate) not in seen:
                return self._space.design(candidate.params)
        return None

    def _proposed(self, study: Study, trial: FrozenTrial, seen: set[str]) -> Design | None:
        """What the inner sampler proposes, or else a draw, made legal, fitting and new."""
        for _ in range(N_PROPOSALS):
            design = self._repaired(self._ask_inner(study, trial), seen)
            if design is not None:
                return design
        seed = int(self._rng.integers(2**31))
        for candidate in itertools.islice(self._designs.draws(seed), N_PROPOSALS):
            design = self._repaired(candidate.params, seen)
            if design is not None:
                return design
        for candidate in self._designs.everything(MAX_EVERYTHING) or ():
            if self._designs.identity(candidate) not in seen:
                return self._space.design(candidate.params)
        return None

    def _ask_inner(self, study: Study, trial: FrozenTrial) -> dict[str, Label]:
        """Labels of all choices that are active under what the inner sampler proposes, whether
        they are legal together or not."""
        relative_space = self._inner.infer_relative_search_space(study, trial)
        relative: dict[str, Any] = {}
        with contextlib.suppress(SpaceExhausted):  # a grid can end where repairs still find more
            relative = self._inner.sample_relative(study, trial, relative_space)
        labels: dict[str, Label] = {}

        def pick(path: str, choice: Choice) -> Label:
            if path in relative and relative[path] in choice.options:
                labels[path] = relative[path]
            else:
                labels[path] = self._inner.sample_independent(
                    study, trial, path, self._designs.distributions[path]
                )
            return labels[path]

        with contextlib.suppress(ArchError):
            self._space.propose(pick)
        return labels

    def _repaired(self, labels: Mapping[str, Label], seen: set[str]) -> Design | None:
        """The nearest new design within the budget that single changes find, or none."""
        here = self._screener.screened(labels) or self._screener.mutated(labels, self._rng)
        if here is None:
            return None
        found = walked_inside(
            self._screener,
            self._budget,
            here,
            self._rng,
            lambda other: other.spec.arch_id not in seen,
        )
        return None if found is None else self._space.design(found.choices)


def walked_inside(
    screener: Screener,
    budget: Budget,
    here: Screened,
    rng: np.random.Generator,
    is_new: Callable[[Screened], bool] = lambda here: True,
) -> Screened | None:
    """The nearest design within the budget that single changes find, or none.

    Args:
        screener: of the space.
        budget: the walls.
        here: where the walk begins.
        rng: of the changes.
        is_new: asked about designs within the budget; the walk goes on where it says no.
    """
    excess = budget.excess(here.cost)
    for _ in range(N_REPAIRS):
        if excess == 0.0 and is_new(here):
            return here
        other = screener.mutated(here.choices, rng)
        if other is None:
            return None
        other_excess = budget.excess(other.cost)
        if other_excess < excess or other_excess == 0.0:
            here, excess = other, other_excess
    return None
