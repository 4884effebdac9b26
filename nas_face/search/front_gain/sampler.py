"""A sampler that proposes what the Pareto front is expected to gain most from."""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_face.search.designs import Candidate, Designs, SpaceExhausted
from nas_face.search.front_gain.encoded import encoder_of
from nas_face.search.front_gain.history import History
from nas_face.search.front_gain.model import FrontModel
from nas_face.search.front_gain.startup import MAX_EVERYTHING, first_designs, pool_of
from nas_face.search.front_gain.walls import WallModel, Walls
from nas_face.space import Label

Floats = NDArray[np.float64]

Features = Callable[[Candidate], NDArray[np.float32] | None]
"""Further numbers of a design, the same number for all, or none where they cannot be had."""

NO_WALLS: Final[Walls] = MappingProxyType({})

N_STARTUP = 7
"""Designs that are spread before the model is asked: halves, quarters and eighths of the range.
Measured on the CIFAR-100 table: 10 and 13 leave less for the model at 50 trainings."""

EVERY_ALONE = 4
"""Each so many turns the best value of one measured objective is asked for: the good end of a
front that lies at a wall adds little hypervolume, but is what a wall is set for."""

N_FRESH = 32
N_GENERATIONS, N_CHILDREN, N_PARENTS = 4, 48, 16
N_SHORTLIST = 24
"""Designs for which `features` are computed."""

LIKELY, N_LIKELY = 0.5, 16
"""First designs are chosen among those that keep all walls with this probability, or where there
are fewer, among so many that are the likeliest."""

N_LAST_DRAWS = 2000
"""Draws among which something new is looked for in the end."""


@final
class FrontGainSampler(BaseSampler):
    """Proposes new designs by expected hypervolume gain, the known objectives being exact.

    The first designs are spread over the logarithm of the known objectives. From then on a model
    of each other objective says what the front would gain from a design, and evolution over the
    designs finds the one with the largest gain. Trials that are running count as if they had come
    out as predicted, so that several workers ask for different designs. What was proposed once is
    not proposed again, and nothing is outside the walls that are known before training.

    Other walls stand on what is measured of the untrained network, such as its latency, and what
    breaks one is given up there. Every measurement that is on record, of trials in any state,
    teaches how likely a design keeps these walls, and its gain counts by that probability.

    A proposal is a function of the seed and of the study's trials, so that a sampler can be made
    anew for each trial, in any process. Trials that were stopped at a rung teach the model as
    well, if their values there are in the user attributes that `nas_face.search.record` names.

    Example:
        >>> import optuna
        >>> from optuna.distributions import CategoricalDistribution
        >>> from nas_face.search.designs.parameter_designs import ParameterDesigns
        >>> widths = {"first": CategoricalDistribution((8, 16, 32)),
        ...           "second": CategoricalDistribution((8, 16, 32))}
        >>> designs = ParameterDesigns(widths, lambda of: {"madds": of["first"] * of["second"]})
        >>> sampler = FrontGainSampler(designs, known=[None, "madds"], seed=0)
        >>> study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    Args:
        designs: what can be proposed.
        known: for each objective, the name in `Candidate.known` of what it is, or none where it
            has to be measured.
        seed: of every draw.
        n_startup: how many trials with values there must be before the model is asked, at least 1.
        start: labels of designs that come before all others, in order; those that are outside the
            walls or were tried are passed over.
        features: further numbers of a design for the model, such as scores of the untrained
            network. They are asked for a shortlist and for every trial with values, so they should
            be kept; where one of them cannot be had, the model does without.
        walls: lower and upper limit, inclusive, of what is measured before training, by the name
            under which the user attribute `timed` has it (`nas_face.search.record`).
        timed: for each objective, the name in that attribute of what it is, or none. Trials that
            end without values teach such an objective as well; empty where there is none.
    """

    def __init__(
        self,
        designs: Designs,
        *,
        known: Sequence[str | None],
        seed: int,
        n_startup: int | None = None,
        start: Sequence[Mapping[str, Label]] = (),
        features: Features | None = None,
        walls: Walls = NO_WALLS,
        timed: Sequence[str | None] = (),
    ) -> None:
        self._designs = designs
        self._known = tuple(known)
        self._names = tuple(dict.fromkeys(name for name in known if name is not None))
        self._seed = seed
        self._n_startup = max(1, N_STARTUP if n_startup is None else n_startup)
        self._start = tuple(start)
        self._features = features
        self._walls = dict(walls)
        self._timed = tuple(timed)
        self._independent = RandomSampler(seed=seed)
        self._asked: dict[int, Candidate] = {}
        self._lock = threading.Lock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters of the designs, conditional ones included."""
        return self._designs.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Labels of one new design; of conditional parameters, the active ones only.

        Raises:
            SpaceExhausted: nothing new was found within the walls.
        """
        if len(study.directions) != len(self._known):
            raise ValueError(
                f"known must have an entry for each objective of the study, "
                f"{len(study.directions)}, got {len(self._known)}"
            )
        with self._lock:
            history = History.of(study, self._designs, trial.number, self._asked)
            for candidate in self._proposals(history, trial.number):
                if self._is_new(candidate, history):
                    self._asked[trial.number] = candidate
                    return dict(candidate.params)
        raise SpaceExhausted(
            f"no design is left that fits the budget and was not tried ({len(history.tried)} "
            "were); widen the space or the budget"
        )

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Parameters outside the designs, which a user's own objective may add: at random."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forget the proposal: the trial has filed it."""
        self._asked.pop(trial.number, None)

    def reseed_rng(self) -> None:
        """Called by Optuna for parallel processes; proposals differ since their trials do."""
        self._independent.reseed_rng()

    def _is_new(self, candidate: Candidate, history: History) -> bool:
        return (
            candidate.key not in history.seen
            and self._designs.identity(candidate) not in history.seen
        )

    def _proposals(self, history: History, number: int) -> Iterator[Candidate]:
        """Candidates in the order of preference, those that were tried among them."""
        for labels in self._start:
            candidate = self._designs.of(labels)
            if candidate is not None and self._designs.fits(candidate):
                yield candidate
        rng = np.random.default_rng([self._seed, number])
        pool = pool_of(self._designs, self._names)
        if pool:
            walls = WallModel(self._walls, history, encoder_of(self._designs, self._names))
            if len(history.finished) >= self._n_startup:
                yield from self._by_gain(history, pool, walls, rng)
            else:
                yield from self._first(history, pool, walls, rng)
        draws = self._designs.draws(int(rng.integers(2**31)))
        yield from itertools.islice(draws, N_LAST_DRAWS)

    def _first(
        self,
        history: History,
        pool: Sequence[Candidate],
        walls: WallModel,
        rng: np.random.Generator,
    ) -> Iterator[Candidate]:
        """Candidates spread over the known objectives, those that likely keep the walls first."""

        def merits(candidates: Sequence[Candidate]) -> Floats:
            return _merits(np.zeros(len(candidates)), walls.log_chances(candidates))

        if walls.knows:
            is_likely = walls.log_chances(pool) > np.log(LIKELY)
            likely = [
                each
                for each, is_one in zip(pool, is_likely, strict=True)
                if is_one and each.key not in history.seen
            ]
            if len(likely) < N_LIKELY:
                likely = self._evolved(merits, (), history, pool, rng)[:N_LIKELY]
            yield from first_designs(likely, self._names, history.tried, rng)
        yield from first_designs(pool, self._names, history.tried, rng)

    def _by_gain(
        self,
        history: History,
        pool: Sequence[Candidate],
        walls: WallModel,
        rng: np.random.Generator,
    ) -> Iterator[Candidate]:
        alone = self._alone(len(history.tried))

        def merits(model: FrontModel, candidates: Sequence[Candidate]) -> Floats:
            return _merits(model.gains(candidates, alone=alone), walls.log_chances(candidates))

        model = FrontModel(self._designs, self._known, history, pool, timed=self._timed)
        best = self._evolved(functools.partial(merits, model), model.front, history, pool, rng)
        if self._features is not None:
            best = self._with_features(best, merits, history, pool)
        yield from best

    def _alone(self, turn: int) -> int | None:
        """The measured objective that is asked for alone in this turn, if it is one's turn."""
        measured = [column for column, name in enumerate(self._known) if name is None]
        if not measured or turn % EVERY_ALONE:
            return None
        return measured[turn // EVERY_ALONE % len(measured)]

    def _evolved(
        self,
        merits: Callable[[Sequence[Candidate]], Floats],
        front: Sequence[Candidate],
        history: History,
        pool: Sequence[Candidate],
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """New candidates that were looked at, the best first."""
        designs, seen = self._designs, set(history.seen)
        found: list[Candidate] = []
        rated = np.zeros((0, 2))

        def add(candidates: Sequence[Candidate]) -> None:
            nonlocal rated
            fresh = {each.key: each for each in candidates if each.key not in seen}
            seen.update(fresh)
            found.extend(fresh.values())
            rated = np.concatenate([rated, merits(list(fresh.values()))])

        add(pool)
        if designs.everything(MAX_EVERYTHING) is None:
            add(list(itertools.islice(designs.draws(int(rng.integers(2**31))), N_FRESH)))
            for _ in range(N_GENERATIONS):
                parents = [*(found[at] for at in _best_first(rated)[:N_PARENTS]), *front]
                add(_children(designs, parents, rng))
        return [found[at] for at in _best_first(rated)]

    def _with_features(
        self,
        best: list[Candidate],
        merits: Callable[[FrontModel, Sequence[Candidate]], Floats],
        history: History,
        pool: Sequence[Candidate],
    ) -> list[Candidate]:
        """The same candidates, the shortlist among them ordered by a model that has features."""
        assert self._features is not None
        features = functools.cache(self._features)
        new = [each for each in best[: 2 * N_SHORTLIST] if self._is_new(each, history)]
        shortlist = [each for each in new[:N_SHORTLIST] if features(each) is not None]
        if not shortlist:
            return best
        try:
            model = FrontModel(
                self._designs, self._known, history, pool, features=features, timed=self._timed
            )
        except LookupError:
            return best
        order = _best_first(merits(model, shortlist))
        return [*(shortlist[at] for at in order), *best]


def _merits(gains: Floats, log_chances: Floats) -> Floats:
    """`(K, 2)`: gains as far as the walls are likely kept, and the chances of that, which decide
    where no gain is left."""
    return np.column_stack([gains * np.exp(log_chances), log_chances])


def _best_first(merits: Floats) -> NDArray[np.intp]:
    """Order of rows `(K, 2)`: the largest first number first, among equals the second."""
    return np.lexsort((-merits[:, 1], -merits[:, 0]))


def _children(
    designs: Designs, parents: Sequence[Candidate], rng: np.random.Generator
) -> list[Candidate]:
    """Legal children of random parents, half of one and half of two."""
    children: list[Candidate | None] = []
    if not parents:
        return []
    for _ in range(N_CHILDREN):
        a, b = (parents[int(at)] for at in rng.integers(len(parents), size=2))
        if rng.random() < 0.5 or a is b:
            children.append(designs.mutate(a, rng))
        else:
            children.append(designs.crossover(a, b, rng))
    return [child for child in children if child is not None]
