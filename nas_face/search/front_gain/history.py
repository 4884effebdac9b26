"""What a study knows so far, in the form that a model learns from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_face.search.designs import Candidate, Designs
from nas_face.search.record import ARCH_ID, REFUSED, RUNG, TIMED

Floats = NDArray[np.float64]

MIN_PAIRS = 4
"""Finished trials with values at a rung that it takes to tell how far a rung is from the end."""

MIN_RUNG_NOISE = 0.05
"""Least variance that a value at a rung has around the final one, standardised (assumed)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Past:
    """One trial.

    Attributes:
        number: of the trial.
        candidate: what it trains or trained.
        values: `(M,)`, each to be small; none where the trial has no final values.
        rungs: values at rungs, each to be small, by epochs.
        timed: what was measured before training, by name; finite figures only.
    """

    number: int
    candidate: Candidate
    values: Floats | None
    rungs: dict[int, Floats]
    timed: dict[str, float]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """All trials of a study but the one that is asked for, in order.

    Attributes:
        seen: identities of everything that was proposed, whatever became of it.
        finished: trials with values that break no wall.
        stopped: trials that were stopped at a rung.
        running: candidates that are at work.
        tried: all candidates in order.
        timed: trials of any state that measured something before training.
        signs: `(M,)`, -1 for each objective that is maximised, else 1.
    """

    seen: frozenset[str]
    finished: tuple[Past, ...]
    stopped: tuple[Past, ...]
    running: tuple[Candidate, ...]
    tried: tuple[Candidate, ...]
    timed: tuple[Past, ...]
    signs: Floats

    @classmethod
    def of(cls, study: Study, designs: Designs, current: int, asked: dict[int, Candidate]) -> Self:
        """Read a study.

        Args:
            study: the study; trials that make no candidate are passed over.
            designs: what makes candidates of parameters.
            current: number of the trial that is asked for.
            asked: proposals of running trials, which may not have filed them yet, by number.
        """
        signs = np.array(
            [-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in study.directions]
        )
        seen: set[str] = set()
        finished, stopped, running, tried, timed = [], [], [], [], []
        for trial in study.get_trials(deepcopy=False):
            if trial.number == current:
                continue
            if ARCH_ID in trial.user_attrs:
                seen.add(trial.user_attrs[ARCH_ID])
            candidate = designs.of(trial.params)
            if candidate is None and trial.state == TrialState.RUNNING:
                candidate = asked.get(trial.number)
            if candidate is None:
                continue
            seen.add(candidate.key)
            if ARCH_ID not in trial.user_attrs:
                seen.add(designs.identity(candidate))
            tried.append(candidate)
            past = _past(trial, candidate, signs)
            if past.timed:
                timed.append(past)
            if trial.state == TrialState.RUNNING:
                running.append(candidate)
            elif past.values is not None:
                finished.append(past)
            elif trial.state == TrialState.PRUNED and past.rungs:
                stopped.append(past)
        return cls(
            seen=frozenset(seen),
            finished=tuple(finished),
            stopped=tuple(stopped),
            running=tuple(running),
            tried=tuple(tried),
            timed=tuple(timed),
            signs=signs,
        )

    def values(self) -> Floats:
        """`(N, M)` of the finished trials; what is infinitely bad counts as the worst finite."""
        table = np.array([past.values for past in self.finished if past.values is not None])
        for column in table.T:
            finite = column[np.isfinite(column)]
            column[np.isposinf(column)] = finite.max(initial=-np.inf) if len(finite) else 0.0
        return table

    def timed_only(
        self, objective: int, name: str, wanted: Callable[[Candidate], bool]
    ) -> tuple[list[Candidate], Floats]:
        """What was measured before training and is an objective, of trials without values.

        Args:
            objective: which column.
            name: of what was measured.
            wanted: asked about each candidate.

        Returns:
            Candidates, and the objective's values, to be small.
        """
        found = [
            past
            for past in self.timed
            if past.values is None and name in past.timed and wanted(past.candidate)
        ]
        values = np.array([past.timed[name] for past in found]) * self.signs[objective]
        return [past.candidate for past in found], values

    def early(self, objective: int) -> tuple[list[Candidate], Floats, Floats]:
        """What the stopped trials would have come to, by the mean way from rung to end.

        Args:
            objective: which column.

        Returns:
            Candidates, expected final values, and for each the standard deviation of what the
            finished trials came to around it; of rungs that too few finished trials passed,
            nothing.
        """
        candidates: list[Candidate] = []
        values: list[float] = []
        deviations: list[float] = []
        for past in self.stopped:
            epochs = max(past.rungs)
            ways = [
                float(other.values[objective] - other.rungs[epochs][objective])
                for other in self.finished
                if other.values is not None and epochs in other.rungs
            ]
            ways = [way for way in ways if np.isfinite(way)]
            value = past.rungs[epochs][objective]
            if len(ways) >= MIN_PAIRS and np.isfinite(value):
                candidates.append(past.candidate)
                values.append(float(value + np.mean(ways)))
                deviations.append(float(np.std(ways)))
        return candidates, np.array(values), np.array(deviations)


def _past(trial: FrozenTrial, candidate: Candidate, signs: Floats) -> Past:
    values = None
    complete = trial.state == TrialState.COMPLETE and REFUSED not in trial.user_attrs
    if complete and len(trial.values) == len(signs):
        values = np.array(trial.values, dtype=np.float64) * signs
        if np.isnan(values).any() or np.isneginf(values).any():
            values = None
    rungs = {
        int(name.removeprefix(RUNG)): np.asarray(each, dtype=np.float64)
        for name, each in trial.user_attrs.items()
        if name.startswith(RUNG) and _is_rung(name, each, len(signs))
    }
    measured = trial.user_attrs.get(TIMED)
    timed = {
        name: float(each)
        for name, each in (measured.items() if isinstance(measured, Mapping) else ())
        if isinstance(each, int | float) and np.isfinite(each)
    }
    return Past(number=trial.number, candidate=candidate, values=values, rungs=rungs, timed=timed)


def _is_rung(name: str, values: Any, n_objectives: int) -> bool:
    return (
        name.removeprefix(RUNG).isdecimal()
        and isinstance(values, Sequence)
        and len(values) == n_objectives
    )
