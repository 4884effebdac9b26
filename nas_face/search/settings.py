"""What a search is told to do, and what it asks of those who train."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from nas_face.arch.spec import ArchSpec
from nas_face.errors import MetricError
from nas_face.search.budget import Budget
from nas_face.search.front_gain import Features
from nas_face.search.ledger import Ledger
from nas_face.search.objectives import Objective
from nas_face.search.rungs import Rungs
from nas_face.space import Label

Report = Callable[[int, Mapping[str, float]], bool]
"""Called with finished epochs and values so far; answers whether to go on."""


class Evaluate(Protocol):
    """What the search asks for: time, train and measure one architecture."""

    def time(self, spec: ArchSpec) -> Mapping[str, float]:
        """Values by name of the untrained network, at least those of the timed objectives and of
        the limits on latency; none where nothing is to be timed."""

    def __call__(
        self,
        spec: ArchSpec,
        *,
        seed: int,
        report: Report,
        timed: Mapping[str, float],
        ledger: Ledger,
    ) -> Mapping[str, float]:
        """Values by name, at least those of the trained objectives.

        Args:
            spec: the architecture.
            seed: of its weights and its training.
            report: to be called after each epoch of `Rungs.epochs`.
            timed: what `time` measured, now or in an earlier sitting.
            ledger: to be told what it cost.

        Raises:
            TrialStopped: `report` said to stop.
        """


class TrialStopped(Exception):  # noqa: N818  not an error: the ranking ended this trial
    """Raised by `evaluate` when `report` said to stop."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """What a search does.

    Attributes:
        objectives: axes of the front, in order.
        budget: walls.
        n_trials: trials in all, those of earlier sittings and of other workers included.
        seed: of everything.
        sampler: which one proposes, by its name in `make_sampler`.
        rungs: early stopping.
        start: labels of designs to begin with, by path.
        features: further numbers of a design for the model of the sampler, if it has one.
    """

    objectives: tuple[Objective, ...]
    budget: Budget
    n_trials: int
    seed: int
    sampler: str
    rungs: Rungs
    start: tuple[Mapping[str, Label], ...] = ()
    features: Features | None = None


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
