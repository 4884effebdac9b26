"""The search loop: ask, decode, evaluate, tell. Optuna's storage is the only journal."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_face.arch.spec import ArchSpec
from nas_face.errors import MetricError, SearchFailed
from nas_face.search.budget import Budget
from nas_face.search.objectives import Objective
from nas_face.search.record import ARCH_ID, FAILURE, METRICS, RUNG, STOPPED
from nas_face.search.rungs import Rungs
from nas_face.search.sampler import (
    BudgetedSampler,
    SamplerName,
    SpaceExhausted,
    inner_sampler,
)
from nas_face.search.seeds import derive_seed
from nas_face.space import Choice, Label, SearchSpace

logger = logging.getLogger(__name__)

MAX_FAILURES_IN_A_ROW = 5

Report = Callable[[int, Mapping[str, float]], bool]
"""Called with finished epochs and values so far; answers whether to go on."""


class Evaluate(Protocol):
    """What the search asks for: train and measure one architecture."""

    def __call__(self, spec: ArchSpec, *, seed: int, report: Report) -> Mapping[str, float]:
        """Values by name, at least those of the trained and timed objectives."""


class TrialStopped(Exception):  # noqa: N818  not an error: the ranking ended this trial
    """Raised by `evaluate` when `report` said to stop."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """What a search does.

    Attributes:
        objectives: axes of the front, in order.
        budget: walls.
        n_trials: trials in all, those of earlier sittings included.
        seed: of everything.
        sampler: Optuna's sampler inside ours.
        rungs: early stopping.
    """

    objectives: tuple[Objective, ...]
    budget: Budget
    n_trials: int
    seed: int
    sampler: SamplerName
    rungs: Rungs


def run_search(
    study: Study,
    space: SearchSpace,
    evaluate: Evaluate,
    settings: SearchSettings,
    *,
    on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
) -> None:
    """Run trials until there are `n_trials`, going on where an earlier sitting stopped.

    A trial that a crash left unfinished is evaluated again under its own number, from its own
    seed, so that an interrupted search ends as an uninterrupted one. A trial that raises or
    diverges is marked failed with the reason, and the search goes on; a failure of the operating
    system, such as a full disk, ends the sitting instead and leaves the trial to the next.

    Args:
        study: Optuna study with the directions of the objectives.
        space: what may be chosen.
        evaluate: trains and measures.
        settings: the rest.
        on_trial: called with every trial that ended in this sitting.

    Raises:
        SearchFailed: several trials in a row failed; the last reason is given.
        OSError: the operating system refused something.
    """
    failures = 0
    for trial in _unfinished(study):
        on_trial(_run_trial(study, space, evaluate, settings, trial))
    while _n_ended(study) < settings.n_trials:
        seed = derive_seed(settings.seed, "propose", _n_ended(study))
        inner = inner_sampler(settings.sampler, seed)
        study.sampler = BudgetedSampler(space, settings.budget, inner, seed)
        try:
            ended = _run_trial(study, space, evaluate, settings, study.ask())
        except SpaceExhausted as nothing_left:
            logger.warning("%s", nothing_left)
            # Optuna opens a trial before it asks the sampler.
            for stub in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                study.tell(stub.number, state=TrialState.FAIL)
            return
        on_trial(ended)
        failures = failures + 1 if ended.state == TrialState.FAIL else 0
        if failures >= MAX_FAILURES_IN_A_ROW:
            reason = ended.user_attrs.get(FAILURE, "unknown")
            raise SearchFailed(f"{failures} trials in a row failed; the last: {reason}")


def values_of(
    objectives: Sequence[Objective], spec: ArchSpec, measured: Mapping[str, float]
) -> list[float]:
    """Objective values of an architecture: analytic ones computed, the others as measured.

    Raises:
        MetricError: a measured value is missing, or is not a number.
    """
    cost = spec.cost()
    for objective in objectives:
        if objective.origin == "analytic":
            continue
        if objective.name not in measured:
            raise MetricError(f"no value for the objective {objective.name}")
        if math.isnan(measured[objective.name]):
            raise MetricError(f"the objective {objective.name} is not a number")
    return [
        objective.analytic_value(cost)
        if objective.origin == "analytic"
        else float(measured[objective.name])
        for objective in objectives
    ]


def _run_trial(
    study: Study,
    space: SearchSpace,
    evaluate: Evaluate,
    settings: SearchSettings,
    trial: Trial,
) -> FrozenTrial:
    started = time.monotonic()
    metrics: dict[str, float] = {}

    def suggest(path: str, choice: Choice) -> Label:
        label: Label = trial.suggest_categorical(path, choice.labels)
        return label

    try:
        spec = space.propose(suggest).spec
        trial.set_user_attr(ARCH_ID, spec.arch_id)
        report = _reporter(study, trial, spec, settings, metrics)
        seed = derive_seed(settings.seed, spec.arch_id)
        metrics.update(evaluate(spec, seed=seed, report=report))
        values = values_of(settings.objectives, spec, metrics)
    except TrialStopped:
        trial.set_user_attr(METRICS, _record(spec, metrics, started))
        return study.tell(trial, state=TrialState.PRUNED)
    except SpaceExhausted:  # raised when the first label is asked for; it ends the search
        raise
    except OSError:  # a full disk is not this design's fault: the trial stays open and is resumed
        raise
    except Exception as failure:  # any other failure belongs to this trial alone
        logger.info("trial %d failed", trial.number, exc_info=True)
        reason = " ".join(str(failure).split()) or type(failure).__name__
        trial.set_user_attr(FAILURE, f"{type(failure).__name__}: {reason}"[:500])
        return study.tell(trial, state=TrialState.FAIL)
    trial.set_user_attr(METRICS, _record(spec, metrics, started))
    return study.tell(trial, values)


def _record(spec: ArchSpec, metrics: Mapping[str, float], started: float) -> dict[str, Any]:
    cost = spec.cost()
    return {
        **metrics,
        "madds": cost.madds,
        "params": cost.params,
        "peak_activations": cost.peak_activations,
        "size_bytes": cost.size_bytes("fp32"),
        "wall_s": round(time.monotonic() - started, 3),
    }


def _reporter(
    study: Study,
    trial: Trial,
    spec: ArchSpec,
    settings: SearchSettings,
    metrics: dict[str, float],
) -> Report:
    """Files a trial's values at each rung and compares them with those that came before."""

    def report(epochs: int, measured: Mapping[str, float]) -> bool:
        if epochs not in settings.rungs.epochs:
            return True
        key = f"{RUNG}{epochs}"
        values = values_of(settings.objectives, spec, measured)
        signed = [
            -value if objective.direction == "maximize" else value
            for value, objective in zip(values, settings.objectives, strict=True)
        ]
        others = [
            past.user_attrs[key]
            for past in study.get_trials(deepcopy=False)
            if key in past.user_attrs and past.number < trial.number
        ]
        trial.set_user_attr(key, signed)
        if settings.rungs.promotes(signed, others):
            return True
        metrics.update(measured)
        trial.set_user_attr(STOPPED, epochs)
        return False

    return report


def _unfinished(study: Study) -> list[Trial]:
    """Trials that a crash left running; those cut off while being proposed are closed."""
    found = []
    for past in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if ARCH_ID in past.user_attrs:
            study.sampler = optuna.samplers.RandomSampler()  # asked nothing: all labels are known
            found.append(Trial(study, past._trial_id))
        else:
            study.tell(past.number, state=TrialState.FAIL)
    return found


def _n_ended(study: Study) -> int:
    """Trials that were evaluated, whatever came of it."""
    return sum(ARCH_ID in past.user_attrs for past in study.get_trials(deepcopy=False))
