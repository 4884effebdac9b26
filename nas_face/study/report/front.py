"""The front as a table: one row a trial, and which of them nothing else beats."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pandas as pd
from optuna.trial import TrialState

from nas_face.search import Objective, objective, pareto_ranks
from nas_face.study.run import Run

EXTRA_COLUMNS = (
    "madds",
    "params",
    "size_bytes",
    "latency_ms",
    "auc",
    "eer",
    "log_tar",
    "test_accuracy",
    "test_accuracy_std",
    "test_auc",
    "test_eer",
    "wall_s",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Front:
    """Trials of a run and its Pareto front.

    Attributes:
        objectives: axes, in the order of the study.
        trials: one row for each complete trial: `trial`, `arch_id`, the objectives, other
            measurements, `on_front`.
        n_trials: trials of any kind that were evaluated.
        n_stopped: of these, stopped at a rung.
        n_failed: of these, failed.
    """

    objectives: tuple[Objective, ...]
    trials: pd.DataFrame
    n_trials: int
    n_stopped: int
    n_failed: int

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


def front_of(run: Run) -> Front:
    """Read the front of a run from its storage."""
    objectives = tuple(objective(name) for name in run.config.objectives)
    rows: list[dict[str, Any]] = []
    counts = {state: 0 for state in TrialState}
    for trial in run.trials():
        if "arch_id" not in trial.user_attrs or not trial.state.is_finished():
            continue  # under way; or cut off, or found nothing, before there was an architecture
        counts[trial.state] += 1
        if trial.state != TrialState.COMPLETE:
            continue
        metrics = trial.user_attrs["metrics"]
        values = dict(zip(run.config.objectives, trial.values, strict=True))
        others = {name: metrics[name] for name in EXTRA_COLUMNS if name in metrics}
        rows.append(
            {"trial": trial.number, "arch_id": trial.user_attrs["arch_id"], **others, **values}
        )
    names = ["trial", "arch_id", *run.config.objectives]
    trials = pd.DataFrame(rows, columns=None if rows else names)
    on_front = (
        pareto_ranks(_losses(trials, objectives)) == 0 if rows else np.zeros(0, dtype=np.bool_)
    )
    rest = [name for name in trials.columns if name not in names]
    trials = trials[[*names, *rest]].assign(on_front=on_front)
    whole = [each.name for each in objectives if each.origin == "analytic"]
    trials = trials.astype(dict.fromkeys(whole, np.int64))  # Optuna keeps all values as floats
    return Front(
        objectives=objectives,
        trials=trials,
        n_trials=sum(counts.values()),
        n_stopped=counts[TrialState.PRUNED],
        n_failed=counts[TrialState.FAIL],
    )


def _losses(table: pd.DataFrame, objectives: tuple[Objective, ...]) -> Any:
    """Objective values `(N, M)`, signs turned so that small is good."""
    columns = [
        -table[each.name] if each.direction == "maximize" else table[each.name]
        for each in objectives
    ]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
