"""A sampler that proposes only new designs within the budget, on top of any of Optuna's."""

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_face.errors import ArchError, SpaceError
from nas_face.search.budget import Budget
from nas_face.search.record import ARCH_ID
from nas_face.space import Choice, Design, Label, Screener, SearchSpace

SamplerName = Literal["nsga2", "nsga3", "tpe", "random"]

N_STARTUP = 12
N_SCREENED = 500
N_SPREAD = 48
N_SMALLER = 150
N_PROPOSALS = 16
N_REPAIRS = 400


class SpaceExhausted(SpaceError):
    """No design is left that fits the budget and was not tried before."""


def inner_sampler(name: SamplerName, seed: int) -> BaseSampler:
    """One of Optuna's samplers, set up for a few dozen to a few hundred trials.

    Args:
        name: which.
        seed: of its draws.
    """
    makers: dict[SamplerName, Callable[[], BaseSampler]] = {
        "nsga2": lambda: NSGAIISampler(population_size=N_STARTUP, seed=seed),
        "nsga3": lambda: NSGAIIISampler(population_size=N_STARTUP, seed=seed),
        "tpe": lambda: TPESampler(n_startup_trials=N_STARTUP, seed=seed),
        "random": lambda: RandomSampler(seed=seed),
    }
    with warnings.catch_warnings():
        # NSGA-III's interface may change, says Optuna; a change would show in our tests.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return makers[name]()


class BudgetedSampler(BaseSampler):
    """Proposes designs of a space that fit a budget and were not proposed before in the study.

    The first designs are spread evenly over the logarithm of multiply-adds, from the smallest of
    many that were screened up to the wall: drawn evenly over the choices, most would crowd below
    it. After that the inner sampler proposes; a design over the budget is walked down by single
    changes that bring it closer, and a design that the study has seen is changed until it is new.
    Both cost microseconds to milliseconds, against the seconds to hours of a training. Trials must
    carry their architecture's identity in the user attribute `arch_id`.

    Args:
        space: the space.
        budget: the walls.
        inner: any of Optuna's samplers, multi-objective where the study is.
        seed: of the repairs and of the first designs.
        n_startup: how many designs are spread before the inner sampler is asked.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget,
        inner: BaseSampler,
        seed: int,
        *,
        n_startup: int = N_STARTUP,
    ) -> None:
        self._space = space
        self._budget = budget
        self._inner = inner
        self._n_startup = n_startup
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._first: list[tuple[float, Mapping[str, Label]]] | None = None
        self._distributions: dict[str, BaseDistribution] = {
            path: CategoricalDistribution(choice.labels)
            for path, choice in space.choices().items()
        }

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All choices of the space, the conditional ones included."""
        return self._distributions

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
        if len(seen) < self._n_startup:
            spread = self._spread(seen)
            if spread is not None:
                return dict(spread.choices)
        proposals = [
            lambda: self._space.propose(self._ask_inner(study, trial)) for _ in range(N_PROPOSALS)
        ]
        proposals += [lambda: self._space.sample(self._rng)] * N_PROPOSALS
        for propose in proposals:
            try:
                design = self._repair(propose(), seen, self._rng)
            except ArchError:
                continue
            if design is not None:
                return dict(design.choices)
        raise SpaceExhausted(
            f"{self._space.name}: no design is left that fits {self._budget} and was not tried "
            f"({len(seen)} were); widen the space or the budget"
        )

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

    def _spread(self, seen: set[str]) -> Design | None:
        """A new design near this turn's multiply-adds, or none if nothing that was drawn fits."""
        if self._first is None:
            self._first = self._screened()
        if not self._first:
            return None
        logs = [log for log, _ in self._first]
        low, high = min(logs), max(logs)
        wanted = low + _van_der_corput(len(seen) + 1) * (high - low)
        for _, choices in sorted(self._first, key=lambda each: abs(each[0] - wanted)):
            design = self._space.design(choices)
            if design.spec.arch_id not in seen:
                return design
        return None

    def _screened(self) -> list[tuple[float, Mapping[str, Label]]]:
        """Log multiply-adds and choices of designs that fit: those of many drawn evenly, or where
        few fit, those that come closest, changed until they do; and smaller ones still."""
        drawn = list(itertools.islice(Screener(self._space).draws(self._seed), N_SCREENED))
        drawn.sort(key=lambda each: self._budget.excess(each.cost))
        found: list[tuple[float, Mapping[str, Label]]] = []
        rng = np.random.default_rng(self._seed)
        for each in drawn:
            if self._budget.fits(each.cost):
                found.append((math.log(each.madds), each.choices))
            elif len(found) < N_SPREAD:
                near = self._space.design(each.choices)
                repaired = self._repair(near, set(), rng)
                if repaired is None:
                    break
                found.append((_log_madds(repaired), repaired.choices))
        return [*found, *self._smaller(found, rng)]

    def _smaller(
        self, found: list[tuple[float, Mapping[str, Label]]], rng: np.random.Generator
    ) -> Iterator[tuple[float, Mapping[str, Label]]]:
        """Ever smaller designs from the smallest one found: few draws are near the low end."""
        if not found:
            return
        least, choices = min(found, key=lambda each: each[0])
        best = self._space.design(choices)
        for _ in range(N_SMALLER):
            other = self._space.mutate(best, rng)
            if _log_madds(other) < least and self._budget.fits(other.spec.cost()):
                best, least = other, _log_madds(other)
                yield least, best.choices

    def _ask_inner(self, study: Study, trial: FrozenTrial) -> Callable[[str, Choice], Label]:
        relative_space = self._inner.infer_relative_search_space(study, trial)
        relative = self._inner.sample_relative(study, trial, relative_space)

        def pick(path: str, choice: Choice) -> Label:
            if path in relative and relative[path] in choice.options:
                label: Label = relative[path]
            else:
                label = self._inner.sample_independent(
                    study, trial, path, self._distributions[path]
                )
            return label

        return pick

    def _repair(self, design: Design, seen: set[str], rng: np.random.Generator) -> Design | None:
        """The nearest new design within the budget that single changes find, or none."""
        excess = self._budget.excess(design.spec.cost())
        for _ in range(N_REPAIRS):
            if excess == 0.0 and design.spec.arch_id not in seen:
                return design
            other = self._space.mutate(design, rng)
            other_excess = self._budget.excess(other.spec.cost())
            if other_excess < excess or other_excess == 0.0:
                design, excess = other, other_excess
        return None


def _log_madds(design: Design) -> float:
    return math.log(design.spec.cost().madds)


def _van_der_corput(turn: int) -> float:
    """Binary digits of `turn` mirrored behind the point: 1/2, 1/4, 3/4, 1/8, ... for 1, 2, 3, 4.

    Each new number lies in the widest gap that the earlier ones left.
    """
    digits = bin(turn)[2:][::-1]
    return int(digits, 2) / float(2 ** len(digits))
