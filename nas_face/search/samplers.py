"""Samplers by name, set up for the few dozen to few hundred trials that trainings allow."""

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from nas_face.errors import ConfigError, near_names
from nas_face.search.budget import LATENCY, Budget
from nas_face.search.designs import Designs, SpaceDesigns
from nas_face.search.front_gain import Features, FrontGainSampler, Walls
from nas_face.search.front_gain.sampler import NO_WALLS
from nas_face.search.objectives import Objective
from nas_face.search.stock.budgeted import N_STARTUP, BudgetedSampler
from nas_face.search.stock.children import MixedChildren
from nas_face.search.stock.fitting import FittingSampler
from nas_face.search.stock.rectangular import RectangularSampler
from nas_face.space import Label, SearchSpace

SamplerName = Literal["front_gain", "nsga2", "nsga3", "tpe", "gp", "random"]

SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)

DEFAULT_SAMPLER: SamplerName = "front_gain"

NNI_PREFIX = "nni:"
"""In front of the name of one of NNI's tuners, such as ``nni:evolution``."""


def require_sampler(name: str, n_objectives: int) -> None:
    """Check the name of a sampler; whether what it needs is installed shows when it is made.

    Args:
        name: which.
        n_objectives: of the study.

    Raises:
        ConfigError: there is none of that name, or it takes a single objective only.
    """
    if name.startswith(NNI_PREFIX):
        from nas_face.search.nni.sampler import TUNERS

        tuner = name.removeprefix(NNI_PREFIX)
        if tuner.lower() not in TUNERS:
            raise ConfigError(f"sampler {name!r}: no such tuner; {near_names(tuner, TUNERS)}")
        if n_objectives > 1:
            raise ConfigError(
                f"sampler {name!r}: NNI's tuners take one objective, got {n_objectives}; "
                "name one objective, or choose another sampler"
            )
    elif name not in SAMPLERS:
        raise ConfigError(f"unknown sampler {name!r}; {near_names(name, SAMPLERS)}")


def make_sampler(
    name: str,
    space: SearchSpace,
    budget: Budget,
    objectives: Sequence[Objective],
    seed: int,
    *,
    start: Sequence[Mapping[str, Label]] = (),
    features: Features | None = None,
) -> BaseSampler:
    """A sampler of a space: all of them propose only designs that fit and are new.

    `front_gain` is our own. The others are Optuna's within `BudgetedSampler`:

    - `nsga2` and `nsga3`: a population of 12. Optuna recombines only the parameters that every
      trial has; of a space with conditional choices that leaves few, so that ours recombine all.
    - `tpe`: multivariate, conditional choices grouped with those that they always come with.
    - `gp`: seconds a proposal; for up to about a hundred trials. Choices that are inactive in a
      design stand at their first option.
    - `random`: every choice drawn evenly.

    `nni:NAME` is one of NNI's tuners, for a single objective.

    Args:
        name: which.
        space: the space.
        budget: the walls.
        objectives: axes of the front, in the order of the study's directions.
        seed: of every draw.
        start: labels of designs that come before all others, in order, where they fit.
        features: further numbers of a design for the model of `front_gain`; the others have none.

    Raises:
        ConfigError: there is no sampler of that name, or it needs what is not installed.
    """
    require_sampler(name, len(objectives))
    if name == "front_gain":
        known = [each.name if each.origin == "analytic" else None for each in objectives]
        designs = SpaceDesigns(space, budget)
        return FrontGainSampler(
            designs,
            known=known,
            seed=seed,
            start=start,
            features=features,
            walls=_measured_walls(budget),
            timed=[each.name if each.origin == "timed" else None for each in objectives],
        )
    if name.startswith(NNI_PREFIX):
        inner = _nni(name, space, objectives, seed)
    elif name == "gp":
        inner = RectangularSampler(space, _gp_sampler(seed))
    else:
        inner = _stock(name, seed)
    return BudgetedSampler(space, budget, inner, seed, start=start)


def make_parameter_sampler(
    name: str,
    designs: Designs,
    known: Sequence[str | None],
    seed: int,
    *,
    start: Sequence[Mapping[str, Label]] = (),
    walls: Walls = NO_WALLS,
    timed: Sequence[str | None] = (),
) -> BaseSampler:
    """A sampler by name of designs none of whose parameters depends on another.

    Args:
        name: as in `make_sampler`.
        designs: what can be proposed.
        known: for each objective, the name in `Candidate.known` of what it is, or none.
        seed: of every draw.
        start: labels of designs that come before all others, in order, where they fit.
        walls: on what trials measure, for `front_gain`; see there. Optuna's samplers look at the
            constraints of finished trials (`Trial.set_constraint`).
        timed: for each objective, its name among what trials measure; for `front_gain`.

    Raises:
        ConfigError: there is no sampler of that name for so many objectives, or it needs what is
            not installed.
    """
    require_sampler(name, len(known))
    if name == "front_gain":
        return FrontGainSampler(
            designs, known=known, seed=seed, start=start, walls=walls, timed=timed
        )
    if name.startswith(NNI_PREFIX):
        raise ConfigError(f"sampler {name!r}: NNI's tuners take the choices of a search space")
    inner = _gp_sampler(seed) if name == "gp" else _stock(name, seed)
    return FittingSampler(designs, inner, seed, start=start)


def _measured_walls(budget: Budget) -> Walls:
    """Limits of what is measured before training."""
    if not budget.latency_limited:
        return {}
    return {LATENCY: (budget.min_latency_ms, budget.max_latency_ms)}


def _stock(name: str, seed: int) -> BaseSampler:
    children = MixedChildren(seed)
    makers: dict[str, Callable[[], BaseSampler]] = {
        "nsga2": lambda: NSGAIISampler(
            population_size=N_STARTUP, seed=seed, child_generation_strategy=children
        ),
        "nsga3": lambda: NSGAIIISampler(
            population_size=N_STARTUP, seed=seed, child_generation_strategy=children
        ),
        "tpe": lambda: TPESampler(
            n_startup_trials=N_STARTUP, multivariate=True, group=True, seed=seed
        ),
        "random": lambda: RandomSampler(seed=seed),
    }
    with warnings.catch_warnings():
        # Groups, children and NSGA-III may change, says Optuna; a change would show in our tests.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return makers[name]()


def _gp_sampler(seed: int) -> BaseSampler:
    for package in ("torch", "scipy"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"the sampler gp needs {package}: pip install {package}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed, n_startup_trials=N_STARTUP, warn_independent_sampling=False)


def _nni(name: str, space: SearchSpace, objectives: Sequence[Objective], seed: int) -> BaseSampler:
    from nas_face.search.nni.sampler import nni_sampler

    return nni_sampler(name.removeprefix(NNI_PREFIX), space, objectives, seed)
