"""NNI's tuners as samplers of Optuna's, for one objective.

The package `nni` is archived upstream and an optional extra: nothing else of nas-face imports it.
Of the tuners of NNI 3.0, `tpe`, `random`, `gridsearch` and `evolution` run in process, without
NNI's server (measured with numpy 2.4, scipy 1.17). Not offered: `GP` and `Metis` fail with that
scipy, `Anneal` with that numpy; `DNGO`, `SMAC`, `BOHB` and `PPO` need packages that NNI does not
bring; `Batch`, `PBT`, `Hyperband` and those of NNI's own architecture spaces want something else
than a search space to draw from.
"""

import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_face.errors import ConfigError, near_names
from nas_face.search.designs import SpaceExhausted
from nas_face.search.nni.codes import Parameters, coded, coded_space, decoded, flattened
from nas_face.search.nni.space import NniSpace, to_nni
from nas_face.search.nni.written import TYPE, VALUE
from nas_face.search.objectives import Objective
from nas_face.space import SearchSpace


def nni_sampler(
    name: str, space: SearchSpace | NniSpace, objectives: Sequence[Objective], seed: int
) -> BaseSampler:
    """One of NNI's tuners, at NNI's own settings.

    Args:
        name: `tpe`, `random`, `gridsearch` or `evolution`, in any case of letters.
        space: what is searched.
        objectives: of the study; one.
        seed: of all draws.

    Raises:
        ConfigError: there is no such tuner, NNI is not installed, or there are several objectives.
    """
    if len(objectives) > 1:
        raise _several(", ".join(each.name for each in objectives))
    return NniSampler(name, space, seed)


@final
class NniSampler(BaseSampler):
    """A tuner of NNI's.

    For each trial the tuner is made anew and told every finished trial of the study, so that a
    study that goes on in another process draws as it would have in the first, and so that trials
    that others proposed count. Failed and pruned trials are not told: NNI knows values only.
    NNI sees the position of an option and not its label, so that labels may be of any kind.

    Args:
        name: of the tuner.
        space: what is searched; parameters of the same names are those of the study.
        seed: of all draws.

    Raises:
        ConfigError: there is no such tuner, or NNI is not installed.
    """

    def __init__(self, name: str, space: SearchSpace | NniSpace, seed: int) -> None:
        if name.lower() not in TUNERS:
            raise ConfigError(f"NNI has no tuner {name!r} here; {near_names(name, TUNERS)}")
        _require_nni()
        self._make = TUNERS[name.lower()]
        self._space = space if isinstance(space, NniSpace) else to_nni(space)
        self._seed = seed
        self._random = RandomSampler(seed=seed)
        self._asked: tuple[int, _Tuner] | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters, the conditional ones included.

        Raises:
            ConfigError: the study has several objectives.
        """
        if len(study.directions) > 1:
            raise _several(f"{len(study.directions)} of them")
        return self._space.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The tuner's proposal; asked again for the same trial, its next one.

        Raises:
            SpaceExhausted: the tuner has proposed everything.
        """
        if not search_space:
            return {}
        if self._asked is None or self._asked[0] != trial.number:
            self._asked = (trial.number, self._tuner(study, trial))
        return self._asked[1].propose()

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Parameters outside the space, evenly."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Called by Optuna for parallel threads."""
        self._random.reseed_rng()
        self._seed = int(np.random.default_rng().integers(2**31))
        self._asked = None

    def _tuner(self, study: Study, trial: FrozenTrial) -> "_Tuner":
        minimize = study.direction == StudyDirection.MINIMIZE
        seed = int(np.random.default_rng([self._seed, trial.number]).integers(2**31))
        tuner = self._make(self._space.parameters, minimize, seed, trial.number)
        for past in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if past.number != trial.number and past.value is not None:
                tuner.learn(past.number, past.params, past.value)
        return tuner


class _Tuner(Protocol):
    """What the sampler asks of a tuner."""

    def learn(self, number: int, params: Mapping[str, Any], value: float) -> None:
        """Take in a finished trial."""

    def propose(self) -> dict[str, Any]:
        """Values by name.

        Raises:
            SpaceExhausted: nothing is left.
        """


@final
class _Blind:
    """Tuners that draw without regard to results.

    Args:
        tuner: of NNI's.
        parameters: what it draws.
        n_before: proposals that are passed over.
    """

    def __init__(self, tuner: Any, parameters: Parameters, n_before: int = 0) -> None:
        self._parameters = parameters
        self._tuner = tuner
        tuner.update_search_space(coded_space(parameters))
        for _ in range(n_before):
            _generated(tuner, 0)

    def learn(self, number: int, params: Mapping[str, Any], value: float) -> None:
        """There is nothing to learn."""

    def propose(self) -> dict[str, Any]:
        """The next draw."""
        return decoded(self._parameters, _generated(self._tuner, 0))


@final
class _Tpe:
    """NNI's TPE.

    It is not told that finished trials are not to be drawn again: instead of one that is, it would
    propose the next of a grid, which begins anew with each tuner that is made.
    """

    def __init__(self, tuner: Any, parameters: Parameters) -> None:
        self._parameters = parameters
        self._tuner = tuner
        self._n_proposed = 0
        tuner.update_search_space(coded_space(parameters))

    def learn(self, number: int, params: Mapping[str, Any], value: float) -> None:
        """As if the tuner had proposed the trial."""
        from nni.common.hpo_utils import format_parameters

        drawn = coded(self._parameters, params, np.random.default_rng(number))
        self._tuner._running_params[-1 - number] = format_parameters(drawn, self._tuner.space)
        self._tuner.receive_trial_result(-1 - number, drawn, value)

    def propose(self) -> dict[str, Any]:
        """A draw; the earlier one of this trial, if there was one, is forgotten."""
        self._tuner.trial_end(self._n_proposed, False)
        self._n_proposed += 1
        return decoded(self._parameters, _generated(self._tuner, self._n_proposed))


@final
class _Evolution:
    """NNI's evolution; of nested choices it changes the outermost only, so that it is shown all
    parameters side by side."""

    def __init__(self, tuner: Any, parameters: Parameters, seed: int) -> None:
        self._parameters = tuple(flattened(parameters))
        self._space = coded_space(self._parameters)
        self._tuner = tuner
        self._n_proposed = 0
        self._seed = seed
        with _seeded(seed):
            tuner.update_search_space(self._space)
            # NNI seeds itself from the clock: the first population is drawn again.
            tuner.random_state = np.random.RandomState(seed)
            tuner.population.clear()
            for _ in range(tuner.population_size):
                tuner._random_generate_individual()

    def learn(self, number: int, params: Mapping[str, Any], value: float) -> None:
        """As if the tuner had proposed the trial; inactive parameters are drawn."""
        drawn = coded(self._parameters, params, np.random.default_rng(number))
        with _seeded(f"{self._seed} past {number}"):
            self._tuner.generate_parameters(-1 - number)
        config = self._tuner.running_trials[-1 - number].config
        for key, code in drawn.items():
            choice = self._space[key][TYPE] == "choice"
            config[key] = {"_index": code, VALUE: code} if choice else code
        self._tuner.receive_trial_result(-1 - number, drawn, value)

    def propose(self) -> dict[str, Any]:
        """The next one of the population."""
        self._n_proposed += 1
        with _seeded(f"{self._seed} {self._n_proposed}"):
            return decoded(self._parameters, _generated(self._tuner, self._n_proposed))


def _tpe(parameters: Parameters, minimize: bool, seed: int, number: int) -> _Tuner:
    from nni.algorithms.hpo.tpe_tuner import TpeTuner

    return _Tpe(TpeTuner(_mode(minimize), seed=seed), parameters)


def _random_draws(parameters: Parameters, minimize: bool, seed: int, number: int) -> _Tuner:
    from nni.algorithms.hpo.random_tuner import RandomTuner

    return _Blind(RandomTuner(seed=seed), parameters)


def _grid_search(parameters: Parameters, minimize: bool, seed: int, number: int) -> _Tuner:
    from nni.algorithms.hpo.gridsearch_tuner import GridSearchTuner

    # Each trial has its own place on the grid, whatever became of the earlier ones.
    return _Blind(GridSearchTuner(), parameters, n_before=number)


def _evolution(parameters: Parameters, minimize: bool, seed: int, number: int) -> _Tuner:
    from nni.algorithms.hpo.evolution_tuner import EvolutionTuner

    return _Evolution(EvolutionTuner(_mode(minimize)), parameters, seed)


TUNERS: dict[str, Callable[[Parameters, bool, int, int], _Tuner]] = {
    "tpe": _tpe,
    "random": _random_draws,
    "gridsearch": _grid_search,
    "evolution": _evolution,
}
"""By name; each takes parameters, whether less is better, a seed and the number of the trial."""


def _mode(minimize: bool) -> str:
    return "minimize" if minimize else "maximize"


def _several(which: str) -> ConfigError:
    return ConfigError(
        f"NNI's tuners know one objective, and the study has several ({which}); name one and make "
        "budgets of the others, or take another sampler, such as front_gain"
    )


def _require_nni() -> None:
    try:
        import nni
        import nni.tuner  # noqa: F401
    except ImportError as failure:
        raise ConfigError(
            f"the NNI tuners are an extra: pip install 'nas-face[nni]' ({failure})"
        ) from failure
    nni.silence_stdout()  # where it prints its log, among what a command prints for machines
    logging.getLogger("nni").setLevel(logging.WARNING)


def _generated(tuner: Any, number: int) -> Any:
    import nni

    try:
        return tuner.generate_parameters(number)
    except nni.NoMoreTrialError as failure:
        raise SpaceExhausted(
            "NNI's tuner has proposed all that there is; widen the space"
        ) from failure


@contextlib.contextmanager
def _seeded(seed: int | str) -> Iterator[None]:
    """Python's global generator, which NNI's evolution draws from, seeded and put back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
