"""The front as a table: one row a trial, and which of them nothing else beats."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pandas as pd
from optuna.trial import TrialState

from nas_face.search import Objective, objective
from nas_face.search.pareto import hypervolume_gains, pareto_front
from nas_face.search.record import ARCH_ID, METRICS, REFUSED
from nas_face.study.run import Run

EXTRA_COLUMNS = (
    "madds",
    "params",
    "size_bytes",
    "latency_ms",
    "auc",
    "eer",
    "log_tar",
    "worst_group_tar",
    "test_accuracy",
    "test_accuracy_std",
    "test_auc",
    "test_eer",
    "test_worst_group_tar",
    "wall_s",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Front:
    """Trials of a run and its Pareto front.

    A trial that a rung would have stopped, but which was trained on to audit the rungs, is
    complete like any other and may be on the front.

    Attributes:
        objectives: axes, in the order of the study.
        trials: one row for each complete trial: `trial`, `arch_id`, the objectives, other
            measurements, `on_front`.
        n_trials: trials of any kind that were evaluated.
        n_stopped: of these, stopped at a rung.
        n_failed: of these, failed.
        n_refused: of these, timed only, since they were over a wall on latency.
    """

    objectives: tuple[Objective, ...]
    trials: pd.DataFrame
    n_trials: int
    n_stopped: int
    n_failed: int
    n_refused: int

    @property
    def members(self) -> pd.DataFrame:
        """Rows of the front, cheapest first."""
        cheap = next((each.name for each in self.objectives if each.origin != "trained"), "trial")
        return self.trials[self.trials["on_front"]].sort_values([cheap, "trial"])

    @property
    def knee(self) -> int | None:
        """Trial number of the front member nearest to the ideal point.

        Axes are scaled to the extent of the front; the ideal point has the best value of each.
        None for an empty front.
        """
        members = self.members
        if members.empty:
            return None
        losses = _losses(members, self.objectives)
        spread = losses.max(axis=0) - losses.min(axis=0)
        scaled = (losses - losses.min(axis=0)) / np.where(spread > 0, spread, 1.0)
        return int(members["trial"].iloc[int(np.argmin((scaled**2).sum(axis=1)))])

    @property
    def ideal(self) -> Mapping[str, float]:
        """Best value of each objective among complete trials; empty without any."""
        return self._extremes(best=True)

    @property
    def reference(self) -> Mapping[str, float]:
        """Worst value of each objective among complete trials; empty without any."""
        return self._extremes(best=False)

    def hypervolumes(self) -> list[float]:
        """What the front dominated after each complete trial, in order.

        Hypervolume as a share of the box from `reference` to `ideal`, 0 to 1; axes on which all
        trials are equal are left out. Zeros where there are no others.
        """
        losses = _losses(self.trials, self.objectives)
        low, high = losses.min(axis=0, initial=np.inf), losses.max(axis=0, initial=-np.inf)
        spread = high > low
        if not spread.any():
            return [0.0] * len(losses)
        points = ((losses - low) / np.where(spread, high - low, 1.0))[:, spread]
        corner = np.ones(points.shape[1])
        front = np.empty((0, points.shape[1]))
        shares, share = [], 0.0
        for point in points:
            gain = float(hypervolume_gains(point[None], front, corner)[0])
            if gain > 0:
                share += gain
                front = np.vstack([front, point])
                front = front[pareto_front(front)]
            shares.append(share)
        return shares

    @property
    def hypervolume(self) -> float:
        """What the front dominates; see `hypervolumes`."""
        return self.hypervolumes()[-1] if len(self.trials) else 0.0

    def _extremes(self, *, best: bool) -> dict[str, float]:
        if self.trials.empty:
            return {}
        return {
            each.name: float(
                self.trials[each.name].max()
                if (each.direction == "maximize") == best
                else self.trials[each.name].min()
            )
            for each in self.objectives
        }


def front_of(run: Run) -> Front:
    """Read the front of a run from its storage."""
    objectives = tuple(objective(name) for name in run.config.objectives)
    rows: list[dict[str, Any]] = []
    counts = {state: 0 for state in TrialState}
    n_refused = 0
    for trial in run.trials():
        if ARCH_ID not in trial.user_attrs or not trial.state.is_finished():
            continue  # under way; or cut off, or found nothing, before there was an architecture
        counts[trial.state] += 1
        n_refused += REFUSED in trial.user_attrs
        if trial.state != TrialState.COMPLETE:
            continue
        metrics = trial.user_attrs[METRICS]
        values = dict(zip(run.config.objectives, trial.values, strict=True))
        others = {name: metrics[name] for name in EXTRA_COLUMNS if name in metrics}
        rows.append(
            {"trial": trial.number, "arch_id": trial.user_attrs[ARCH_ID], **others, **values}
        )
    names = ["trial", "arch_id", *run.config.objectives]
    trials = pd.DataFrame(rows, columns=None if rows else names)
    on_front = pareto_front(_losses(trials, objectives))
    rest = [name for name in trials.columns if name not in names]
    trials = trials[[*names, *rest]].assign(on_front=on_front)
    whole = [each.name for each in objectives if each.origin == "analytic"]
    trials = trials.astype(dict.fromkeys(whole, np.int64))  # Optuna keeps all values as floats
    return Front(
        objectives=objectives,
        trials=trials,
        n_trials=sum(counts.values()),
        n_stopped=counts[TrialState.PRUNED] - n_refused,
        n_failed=counts[TrialState.FAIL],
        n_refused=n_refused,
    )


def _losses(table: pd.DataFrame, objectives: tuple[Objective, ...]) -> Any:
    """Objective values `(N, M)`, signs turned so that small is good."""
    columns = [
        -table[each.name] if each.direction == "maximize" else table[each.name]
        for each in objectives
    ]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
